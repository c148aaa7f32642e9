"""`immr items`: done by a running `immr serve`, which has everything loaded, or by the command itself."""
