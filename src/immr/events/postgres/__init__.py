"""The event log on PostgreSQL: URL, queries, and the log itself."""
