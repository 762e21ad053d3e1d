"""A machine's own folder: laid out as its `/`, filled with the files of its config."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from flaude.local import replies

# What a machine can write to. Other users than root may pass /root: programs may lie under it, as on the host.
FOLDERS = {
    "opt/flaude": 0o755,
    "run": 0o755,
    "var/lib": 0o755,
    "var/tmp": 0o1777,
    "workspace": 0o755,
    "home": 0o755,
    "root": 0o711,
    "tmp": 0o1777,
}
COPIES = ("etc/passwd", "etc/group")
"""Files of the host of which every machine has a copy that it may write to."""


def decode_files(config: Mapping[str, Any]) -> dict[str, tuple[bytes, int]]:
    """Content and mode of each of `config.files` by its path; refuses with 400 what Fly could not write.

    Only `raw_value` is known here: the stand-in has no secrets and no image configs. What several configs have in
    common is kept once, in these too: all machines of a batch have the same guest.
    """
    files = {}
    for file in config.get("files") or []:
        path = file.get("guest_path", "") if isinstance(file, dict) else ""
        if not isinstance(path, str) or not path.startswith("/") or ".." in PurePosixPath(path).parts or path == "/":
            raise replies.invalid(f"invalid_argument: config.files: guest_path {path!r} is not an absolute path")
        try:
            file["raw_value"], content = _decoded(file.get("raw_value") or "")
        except (binascii.Error, TypeError, ValueError) as error:
            raise replies.invalid(f"invalid_argument: config.files: raw_value of {path} is not base64") from error
        files[str(PurePosixPath(path))] = (content, file.get("mode") or 0o644)
    return files


@lru_cache(maxsize=16)
def _decoded(raw: str) -> tuple[str, bytes]:
    return raw, base64.b64decode(raw, validate=True)


def inside(folder: Path, path: str | Path) -> Path:
    """Where a path of the machine lies in its folder."""
    return folder / str(path).lstrip("/")


def prepare(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make the folder of a machine that boots."""
    for name, mode in FOLDERS.items():
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        own.chmod(mode)
    (folder / "etc").mkdir(exist_ok=True)
    for name in COPIES:
        if Path("/", name).exists() and not (folder / name).exists():
            shutil.copyfile(Path("/", name), folder / name)
    for path, (content, mode) in files.items():
        file = inside(folder, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it, write-protected folders too."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        shutil.rmtree(folder)
        return
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def layout(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folders (without leading slash) and files that a box lays over the host's; for `files` of a config."""
    lone = [path.lstrip("/") for path in files]
    return list(FOLDERS), [
        *COPIES,
        *(path for path in lone if not path.startswith(tuple(f"{own}/" for own in FOLDERS))),
    ]
