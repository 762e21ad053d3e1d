"""Requests that are longer than one call: their parts, as files that only root can read, until they are used.

A request's name is the beginning of the SHA-256 of its packed text, a part's is the offset of its first character. So
a part that comes twice overwrites itself, whatever the order, and a request whose parts are all there is whole or is
seen to be damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path

NAME_LENGTH = 32
FOLDER = "parts"
_LONGEST_OFFSET = 12
_NAME = re.compile(f"[0-9a-f]{{{NAME_LENGTH}}}")


class BadPart(ValueError):
    """Not a valid part of a request; the message says why."""


class PartsMissing(Exception):
    """Not all parts are there; `offset` is where the first one is missing."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the request ends at character {offset}")
        self.offset = offset


def name_of(packed: str) -> str:
    """What a request is called while its parts arrive."""
    return hashlib.sha256(packed.encode()).hexdigest()[:NAME_LENGTH]


def keep(run_folder: str, name: str, offset: str, chunk: str) -> None:
    """Keep a part; what is left of other requests was broken off, and goes.

    Raises:
        BadPart: A name or an offset is none.
        OSError: It cannot be written.
    """
    folder = _folder(run_folder, name)
    if not offset.isdecimal() or len(offset) > _LONGEST_OFFSET:
        raise BadPart(f"{offset!r} is not an offset")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.parent.chmod(0o700)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    part = folder / str(int(offset))
    beginning = folder / f".{os.getpid()}"
    beginning.write_text(chunk, encoding="ascii")
    beginning.replace(part)  # whole or not at all


def join(run_folder: str, name: str, length: str) -> str:
    """The packed text of a request.

    Raises:
        PartsMissing: It is not whole; or not what its name says, and has to come again from its beginning.
        BadPart: Its name or length is none.
        OSError: It cannot be read.
    """
    folder = _folder(run_folder, name)
    if not length.isdecimal():
        raise BadPart(f"{length!r} is not a length")
    text = ""
    for offset, part in sorted((int(path.name), path) for path in _parts(folder)):
        if offset > len(text):
            break
        # The length of a part may have changed while they came: what is there already is the same.
        text += part.read_text(encoding="ascii")[len(text) - offset :]
    if len(text) < int(length):
        raise PartsMissing(len(text))
    if name_of(text) != name:
        shutil.rmtree(folder, ignore_errors=True)
        raise PartsMissing(0)
    return text


def sweep(run_folder: str) -> None:
    """Remove all parts: their request was used."""
    shutil.rmtree(Path(run_folder, FOLDER), ignore_errors=True)


def newest(run_folder: str) -> float:
    """When a part has last arrived, in seconds since the epoch; 0 when none is there."""
    times = [0.0]
    with contextlib.suppress(OSError):
        times += [folder.stat().st_mtime for folder in Path(run_folder, FOLDER).iterdir()]
    return max(times)


def _folder(run_folder: str, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise BadPart(f"{name!r} is not the name of a request")
    return Path(run_folder, FOLDER, name)


def _parts(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in folder.iterdir() if path.name.isdecimal()]
    return []
