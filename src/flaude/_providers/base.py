"""What every provider of machines has in common."""

from __future__ import annotations

MANAGED_BY = "flaude"
"""The metadata `managed_by` of every machine of ours."""
