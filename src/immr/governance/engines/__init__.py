"""The engines that run governance: DuckDB here, Spark on a cluster."""
