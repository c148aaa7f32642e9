"""HTTP in and out: bodies, schemas, problem responses, admission control, authentication."""
