"""`immr experiment`: the commands of an A/B test."""
