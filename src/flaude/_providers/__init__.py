"""Machines from a cloud."""
