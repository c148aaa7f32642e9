"""The image of every component: IMMR and its libraries. Nothing is installed at run time."""

import os

from immr import __version__

IMAGE = os.environ.get("IMMR_PIPELINE_IMAGE", f"immr/pipeline-python:{__version__}")
