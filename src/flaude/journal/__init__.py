"""The durable record of batches: the `Journal` protocol, SQLite, and a twin in memory."""
