"""What a batch writes to the journal, and how another process continues from it."""
