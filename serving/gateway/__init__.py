"""The A/B gateway: routes each user to a variant and records what was shown."""
