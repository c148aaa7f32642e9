"""The event log on Kafka: URL, messages, writing, and the local view that readers use."""
