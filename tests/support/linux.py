"""Calls of the C library that Python has no name for, or has one in later versions alone."""

from __future__ import annotations

import ctypes
import os


def call_libc(name: str, *arguments: int | bytes | None) -> None:
    """Call a function of the C library that returns 0.

    Raises:
        OSError: It has returned something else.
    """
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
