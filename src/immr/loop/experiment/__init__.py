"""The verbs of an A/B test: start, ramp, stop, decide, roll back, and the queue of versions that wait for it."""
