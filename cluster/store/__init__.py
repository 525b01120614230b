"""The SQL seam: one way to run a transaction, whatever the engine."""
