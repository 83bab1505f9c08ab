"""All that knows RabbitMQ: connection, topology, sources for queues and streams."""
