"""The image of every component: IMMR and its libraries. Nothing is installed at run time."""

import os

IMAGE = os.environ.get("IMMR_PIPELINE_IMAGE", "immr/pipeline-python:0.1.0")
