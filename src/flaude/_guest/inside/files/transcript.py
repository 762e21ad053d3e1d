"""The agent's transcript: Claude Code's own record of the session, without its secrets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from .. import wording
from ..agent.lines import LineSplitter
from ..cooperative import Pace
from ..outgoing_files import OutgoingFiles
from ..redact import Redactor
from . import walk

_PIECE_BYTES = 1 << 18
_PRIVATE = 0o600


class NoTranscript(Exception):
    """There is none, or it cannot come; the message says why."""


def config_folder(environment: Mapping[str, str], workdir: Path) -> Path:
    """Claude Code's own folder, as the agent's environment has it."""
    named = environment.get("CLAUDE_CONFIG_DIR") or str(Path(environment.get("HOME") or "/", ".claude"))
    return workdir / named


async def keep_transcript(
    session_id: str,
    config: Path,
    workdir: Path,
    *,
    homes: Sequence[Path],
    owner: int,
    max_bytes: int,
    max_line_bytes: int,
    outbox: OutgoingFiles,
    redact: Redactor,
    pace: Pace,
) -> dict[str, str]:
    """Put a copy without secrets into the outbox; the result's part on it.

    Args:
        session_id: The session's.
        config: Claude Code's own folder.
        workdir: The working folder.
        homes: Folders that may be reached by links, because their place is root's; below them no link is followed.
        owner: The agent's user id.
        max_bytes: How long it may be; 0 for no limit.
        max_line_bytes: How long a line may be.
        outbox: Takes it.
        redact: Takes secrets out of it.
        pace: How long it may take.

    Raises:
        NoTranscript: Nothing comes.
        OutOfTime: It took too long.
        OSError: It cannot be read, or there is no room for the copy.
    """
    path = f"{session_id}.jsonl"
    with await _open(path, config, homes, workdir, owner, pace) as source:
        size = os.fstat(source.fileno()).st_size
        if max_bytes and size > max_bytes:
            limit = wording.size(max_bytes)
            raise NoTranscript(
                f"the transcript is not among the files, whose limit is {limit} a run: {wording.size(size)}"
            )
        copy = outbox.path("transcript")
        try:
            with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "wb") as target:
                lines = LineSplitter(max_line_bytes)
                while piece := source.read(_PIECE_BYTES):
                    for line, total in lines.feed(piece):
                        target.write(_clean(line, total, redact))
                    await pace.step()
                for line, total in lines.finish():
                    target.write(_clean(line, total, redact))
            await outbox.announce_large("transcript", outbox.opener(copy), pace.step)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
    return {"path": path, "file": "transcript"}


def _clean(line: bytes, total: int, redact: Redactor) -> bytes:
    if total > len(line):  # a part would be no JSON, and might end within a secret
        return json.dumps({"type": "flaude_line_left_out", "bytes": total}).encode() + b"\n"
    return redact(line.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape") + b"\n"


async def _open(name: str, config: Path, homes: Sequence[Path], workdir: Path, owner: int, pace: Pace) -> BinaryIO:
    """The session's file: in the folder that Claude Code names after the working folder, or in any beside it."""
    expected = re.sub(r"[^0-9A-Za-z]", "-", os.path.realpath(workdir))
    try:
        projects = _open_projects(config, homes)
    except OSError as error:
        raise NoTranscript(f"there is no transcript: {error}") from None
    try:
        others = []
        with os.scandir(projects) as entries:
            for entry in entries:
                others.append(entry.name)
                await pace.step()
        for folder in (expected, *sorted(others)):
            await pace.step()
            try:
                found = walk.open_file(projects, [folder, name])
            except OSError:
                continue
            if not walk.is_foreign(os.fstat(found.fileno()), owner):
                return found
            found.close()
    finally:
        os.close(projects)
    raise NoTranscript("there is no transcript of the session where Claude Code keeps them")


def _open_projects(config: Path, homes: Sequence[Path]) -> int:
    config = Path(os.path.normpath(config))
    base = next((home for home in homes if home in config.parents), Path(config.anchor))
    return walk.open_folder(base, [*config.relative_to(base).parts, "projects"])
