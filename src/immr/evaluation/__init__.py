"""Offline evaluation: metrics, cluster-bootstrap intervals, slices, calibration, the gate and the report."""
