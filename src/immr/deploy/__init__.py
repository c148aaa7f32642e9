"""Where versions serve: `bentoml serve` on this machine, or KServe on a cluster."""
