"""How the names of files are told, and sizes of files. Pure."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_UNITS = ("bytes", "KB", "MB", "GB", "TB")
_STEP = 1024
_UNREADABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode that no name can be read with: controls, marks that turn the order of text, line ends, and
what stands for bytes that are no UTF-8."""


def readable(path: str) -> str:
    r"""A path that can be shown and be a file's name anywhere: what could not stands as %XX, byte by byte of its UTF-8.

    Different paths stay different: a `%` that looks like the beginning of such an escape becomes `%25`.

    Args:
        path: As Python gives it, with `surrogateescape` for bytes that are not UTF-8.
    """
    path = _ESCAPE.sub("%25", path)
    if path.isprintable():
        return path
    return "".join(_escaped(letter) if unicodedata.category(letter) in _UNREADABLE else letter for letter in path)


def size(count: int) -> str:
    """A number of bytes for people: 3 bytes, 2.1 GB, 200 MB."""
    value, unit = float(count), 0
    while round(value, 1) >= _STEP and unit < len(_UNITS) - 1:
        value /= _STEP
        unit += 1
    return f"{value:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))
