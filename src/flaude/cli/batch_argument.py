"""The parameter that is a batch file."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter


def _check(_: type, value: str | None) -> None:
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f"there is no option {value}; a file of this name is ./{value}")


# A lone `-` looks like an option.
Source: TypeAlias = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_check)]
"""A file's path; `-` for standard input."""
