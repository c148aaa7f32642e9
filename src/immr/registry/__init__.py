"""MLflow: model versions, champion and challenger, the promotion log."""
