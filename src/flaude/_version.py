"""The version, in one place for the package and its build."""

__version__ = "1.0.0a1"
