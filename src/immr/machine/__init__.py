"""Cores, memory, child processes, and what a terminal shows."""
