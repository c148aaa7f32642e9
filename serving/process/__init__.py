"""What every serving process has: options, startup, metrics, logs, traces, recording, graceful shutdown."""
