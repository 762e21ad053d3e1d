"""Repositories: cloning them, and collecting their changes."""
