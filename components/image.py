"""The one image in which every component runs: IMMR and all it needs, nothing installed at run time."""

import os

IMAGE = os.environ.get("IMMR_PIPELINE_IMAGE", "immr/pipeline-python:0.1.0")
