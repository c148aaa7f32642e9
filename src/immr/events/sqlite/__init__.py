"""The embedded event log: one SQLite file."""
