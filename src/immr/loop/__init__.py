"""The steps of the loop, one verb per file."""
