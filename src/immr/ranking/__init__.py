"""Learns a ranker from a click log: position bias, LambdaMART, and a comparison with the hand weights."""
