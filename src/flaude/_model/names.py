"""What apps and machines may be called: letters, digits and dashes, so that a name is one label of a host name."""

from __future__ import annotations

import re

LONGEST_NAME = 63
"""Characters (RFC 1035, section 2.3.4)."""

NAME = rf"[a-z0-9][a-z0-9-]{{0,{LONGEST_NAME - 1}}}"
"""As a regular expression."""

NAME_IN_WORDS = f"up to {LONGEST_NAME} of a-z, 0-9 and '-'"


def is_name(value: object) -> bool:
    """Whether an app or a machine may be called like that."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None
