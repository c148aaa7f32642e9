"""`python -m immr.cli`."""

from immr.cli import main

main()
