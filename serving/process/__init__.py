"""What every serving process has: metrics, logs, traces, options, graceful shutdown."""
