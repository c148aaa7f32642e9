"""What answers shoppers over HTTP: the service inside a Bento, and the gateway that splits traffic.

An application folder, not part of the wheel: `python -m serving.gateway`, and `bentoml serve` for what
`immr.packaging` builds from it.
"""
