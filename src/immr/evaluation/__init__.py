"""How good a version is: metrics, intervals, slices, calibration, the gate, the report."""
