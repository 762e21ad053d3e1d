"""How a batch is displayed."""
