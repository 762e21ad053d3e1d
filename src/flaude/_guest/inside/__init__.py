"""The supervisor inside the machine: Python standard library alone, 3.9 and later."""
