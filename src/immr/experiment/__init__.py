"""A/B tests: sticky assignment, readout, decision."""
