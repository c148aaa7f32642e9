"""The event log of searches and clicks, the journal in front of it, and the signed tokens of clicks."""
