"""Learns a ranker from a click log: position bias, LambdaMART, and the gate against the hand-tuned weights."""
