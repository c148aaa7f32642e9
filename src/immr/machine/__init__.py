"""Cores, memory allocator and child processes."""
