"""What shoppers were shown and did: the event log, and the signed tokens that keep clicks honest."""
