"""The web page: search side by side, CTR, readout, latency and reports."""
