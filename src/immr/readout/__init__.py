"""The statistics of an A/B test: sums per user, comparisons, sequential tests, guardrails, the decision."""
