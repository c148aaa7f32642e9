"""What answers shoppers over HTTP: the service in a Bento, and the gateway that splits traffic.

An application folder, not part of the wheel. `python -m serving.gateway` runs the gateway; `bentoml serve`
runs the Bentos that `immr.packaging` builds from this folder.
"""
