"""The words of the command."""
