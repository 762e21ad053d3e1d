"""What was measured and kept: `flaude doctor --live --save` writes it, the next runs go by it.

One JSON file in flaude's home folder, with an entry for each Machines API by its base URL. Deleting the file forgets.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flaude._model.data_folder import home_folder
from flaude._model.errors import JournalError
from flaude._providers.fly.exec_limits import (
    EXEC_MARGIN_S,
    FIRST_ANSWER_BYTES,
    FIRST_BODY_BYTES,
    LONGEST_MEASURED_WAIT_S,
    LONGEST_WAIT_S,
    SHORTEST_WAIT_S,
    SMALLEST_ANSWER_BYTES,
    SMALLEST_BODY_BYTES,
    ExecLimits,
)
from flaude._providers.fly.probe.measuring import Found, is_passing
from flaude._version import __version__

_log = logging.getLogger("flaude.fly")

FILE = "measured.json"
_VERSION = 1
_BODY_MARGIN = 512  # the same body may be written a little differently
_ANSWER_MARGIN = 1024


class NewerFileError(ValueError):
    """A newer flaude has written the file."""


class Saved(BaseModel):
    """What was measured of one API; what is missing was not.

    Attributes:
        at: When.
        flaude: By which version.
        body_bytes: The largest body of an exec that worked.
        answer_bytes: The longest output of an exec that arrived whole.
        stdin: Whether standard input arrives.
        exec_s: How long an exec may take, where that is more or less than what is assumed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: datetime
    flaude: str = ""
    body_bytes: int | None = Field(default=None, ge=0)
    answer_bytes: int | None = Field(default=None, ge=0)
    stdin: bool | None = None
    exec_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def limits(self) -> ExecLimits:
        """What execs may have because of it."""
        body, answer, wait_s = FIRST_BODY_BYTES, FIRST_ANSWER_BYTES, LONGEST_WAIT_S
        if self.body_bytes is not None:
            body = max(SMALLEST_BODY_BYTES, self.body_bytes - _BODY_MARGIN)
        if self.answer_bytes is not None and self.answer_bytes < answer:
            answer = max(SMALLEST_ANSWER_BYTES, self.answer_bytes - _ANSWER_MARGIN)
        if self.exec_s is not None:
            wait_s = min(LONGEST_MEASURED_WAIT_S, max(SHORTEST_WAIT_S, self.exec_s - EXEC_MARGIN_S))
        return ExecLimits(body_bytes=body, answer_bytes=answer, stdin=bool(self.stdin), longest_wait_s=wait_s)


def of_measurements(measured: dict[str, Found], at: datetime) -> Saved:
    """What of the measurements the next runs can use, by the names of their points."""
    body, stdin, output, longest = (
        measured.get(name) for name in ("exec_body", "exec_stdin", "exec_output", "longest_exec")
    )
    exec_s = None
    if longest is not None:
        assumed_s = LONGEST_WAIT_S + EXEC_MARGIN_S
        if longest.get("works_s") is None:
            if not is_passing(longest["ended_s"], longest["asked_s"]):
                exec_s = max(0.0, longest["ended_s"] - 1)  # it may have been a second too long
        elif longest["works_s"] > assumed_s or longest["refused"]:
            exec_s = longest["works_s"]
    return Saved(
        at=at,
        flaude=__version__,
        body_bytes=body["largest"] if body is not None else None,
        answer_bytes=max(output["largest"], output.get("cut_at") or 0) or None if output is not None else None,
        stdin=stdin["arrived"] == stdin["sent"] if stdin is not None else None,
        exec_s=exec_s,
    )


def saved_file() -> Path:
    """Where it is kept.

    Raises:
        JournalError: There is no home folder.
    """
    return home_folder() / FILE


def load(base_url: str) -> Saved | None:
    """What was measured of an API; None when nothing was. Blocking, for a worker thread.

    Raises:
        ValueError: The file is broken or of a newer flaude; the message says which file.
    """
    try:
        file = saved_file()
        apis = _read(file)
    except (FileNotFoundError, NotADirectoryError, JournalError):
        return None
    except OSError as error:
        raise ValueError(f"{FILE} cannot be read: {error}") from None
    if base_url not in apis:
        return None
    try:
        return Saved.model_validate(apis[base_url])
    except ValidationError as error:
        raise ValueError(f"{file} is broken: {error.errors()[0]['msg']}; delete it, or measure again") from None


def measured_limits(base_url: str) -> ExecLimits | None:
    """The limits to begin with; what is wrong with the file is logged, and it counts for nothing then."""
    try:
        saved = load(base_url)
    except ValueError as error:
        _log.warning("measurements are not used: %s", error)
        return None
    if saved is None:
        return None
    _log.info("limits measured on %s are used", saved.at.date())
    return saved.limits()


def save(base_url: str, saved: Saved) -> Path:
    """Add the measurements of an API to the file, which keeps those of others. Blocking.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.
        NewerFileError: What is there is a newer flaude's.
        JournalError: There is no home folder.
    """
    file = saved_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        apis = _read(file)
    except NewerFileError:
        raise
    except (FileNotFoundError, ValueError):
        apis = {}  # of no use to anybody
    apis[base_url] = saved.model_dump(mode="json", exclude_none=True)
    descriptor, name = tempfile.mkstemp(prefix=".measured-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as to:
            json.dump({"version": _VERSION, "apis": apis}, to, indent=2)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return file


def _read(file: Path) -> dict[str, Any]:
    """The entries.

    Raises:
        OSError: It cannot be read.
        ValueError: It is broken, or of a newer flaude.
    """
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is broken: {error}; delete it, or measure again") from None
    if isinstance(kept, dict) and isinstance(kept.get("version"), int) and kept["version"] > _VERSION:
        raise NewerFileError(f"{file} is of a newer flaude; update flaude, or delete it")
    apis = kept.get("apis") if isinstance(kept, dict) else None
    if not isinstance(apis, dict):
        raise ValueError(f"{file} is broken: it has no entries; delete it, or measure again")  # noqa: TRY004
    return apis
