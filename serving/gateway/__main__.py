"""`python -m serving.gateway`."""

import sys

from serving.gateway.app import main

sys.exit(main())
