"""Files that a batch is made of: the batch file itself, prompts, rows."""

from __future__ import annotations

import codecs
from pathlib import Path

from flaude.batch_file.nodes import Place
from flaude.batch_file.problems import refusal

LARGEST = 20 * 1024 * 1024
"""Bytes of one file."""


class UnreadableError(Exception):
    """A file cannot be read; the message goes on after its name."""


def read_bytes(path: Path) -> bytes:
    """The file's content.

    Raises:
        UnreadableError: There is no such file, or it is none that could be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UnreadableError("there is no such file") from None
    except IsADirectoryError:
        raise UnreadableError("is a directory; give a file") from None
    except PermissionError:
        raise UnreadableError("may not be read: permission denied") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in the name
        raise UnreadableError("is no path") from None
    return checked_size(data)


def checked_size(data: bytes) -> bytes:
    """The data, if it is not more than anybody means to give.

    Raises:
        UnreadableError: It is.
    """
    if len(data) > LARGEST:
        raise UnreadableError(f"has more than {LARGEST // 1024**2} MB")
    return data


def decode(data: bytes, file: str) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        BatchFileError: It is no UTF-8; the problem has the place of the first byte that is none.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise refusal(Place(file, 1, 1), "is UTF-16; save the file as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line_start = data.rfind(b"\n", 0, error.start) + 1
        place = Place(file, data.count(b"\n", 0, error.start) + 1, len(data[line_start : error.start].decode()) + 1)
        raise refusal(place, f"byte 0x{data[error.start]:02x} is no UTF-8; save the file as UTF-8") from None


class Folder:
    """Where a batch file lies: what it names is relative to there.

    Args:
        path: The folder.
        shown: What to put before a file's name in problems, so that it is found from where the user is.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self._shown = shown
        self._texts: dict[str, str] = {}

    def shown(self, name: str) -> str:
        """What a file is called in problems."""
        return str(Path(self._shown, name)) if "\0" not in name else name

    def text(self, name: str) -> str:
        """The text of a file; read once.

        Raises:
            UnreadableError: It cannot be read.
            BatchFileError: It is no UTF-8.
        """
        if name not in self._texts:
            self._texts[name] = decode(read_bytes(self._path / name), self.shown(name))
        return self._texts[name]
