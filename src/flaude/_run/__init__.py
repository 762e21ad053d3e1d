"""One attempt on one machine."""
