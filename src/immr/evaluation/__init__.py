"""How good a version is: metrics, intervals, the gate, the gallery."""
