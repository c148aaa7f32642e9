"""This machine: its cores, its memory allocator, its processes."""
