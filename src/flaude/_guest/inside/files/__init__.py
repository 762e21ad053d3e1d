"""Artifacts and the transcript."""
