"""HTTP in and out: forms, schemas, problem responses, admission, authentication."""
