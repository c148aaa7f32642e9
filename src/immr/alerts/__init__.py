"""Messages to people: decisions, rollbacks, drift and failed pipeline runs."""
