"""Where training runs: `local` (torchrun)."""
