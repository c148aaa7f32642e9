"""Model versions, their roles and the decisions about them, kept in MLflow."""
