"""All that knows NATS: connection, JetStream sources, topology, the KV bucket."""
