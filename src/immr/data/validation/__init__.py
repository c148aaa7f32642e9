"""Validation of a shop's tables against the data contract: row by row, by key, and across tables."""
