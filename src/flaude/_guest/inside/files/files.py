"""What comes back of the agent's files beside the patches; a part that fails costs no other, and is told."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import wording
from ..agent.processes import end_all
from ..cooperative import OutOfTime, Pace
from ..job import Job
from ..layout import Layout
from ..outgoing_files import OutgoingFiles
from ..redact import Redactor
from . import globs, walk
from .artifacts import collect_artifacts
from .transcript import NoTranscript, config_folder, keep_transcript

_MOST_LISTED = 10_000
_LEAST_S = 5.0


@dataclass(frozen=True)
class Session:
    """The agent's run: its working folder, its user's home and id, its environment, its session's id or nothing."""

    workdir: Path
    home: Path
    owner: int
    environment: Mapping[str, str]
    session_id: str


async def collect_files(
    job: Job, session: Session, layout: Layout, outbox: OutgoingFiles, redact: Redactor, seconds: float | None
) -> dict[str, Any]:
    """The result's parts on the transcript, the artifacts, and all files of the working folder.

    It comes after all else that runs programs of the agent's, and ends what they have left behind: nothing may change
    the files from here on.

    Args:
        job: What was to be done.
        session: Whose files they are.
        layout: Where everything is.
        outbox: Takes the files.
        redact: Takes secrets out of what is told, and out of the transcript.
        seconds: How long it may take, if that is not too short for anything; None for as long as it likes.
    """
    ends = None if seconds is None else time.monotonic() + max(seconds, _LEAST_S)

    def left_s() -> float | None:
        return None if ends is None else max(0.0, ends - time.monotonic())

    await end_all(os.getpid(), session.owner)
    found: dict[str, Any] = {}
    errors: list[str] = []

    async def part(what: str, work: Awaitable[dict[str, Any]]) -> None:
        try:
            found.update(await work)
        except OutOfTime:
            errors.append(f"collecting took longer than {seconds or 0:g} s: {what} is not there")
        except NoTranscript as error:
            errors.append(str(error))
        except Exception as error:  # noqa: BLE001  # a full disk, say, or a defect: the run has its result all the same
            errors.append(f"collecting {what} failed: {error}")

    if job.collect.transcript:
        await part("the transcript", _transcript(job, session, layout, outbox, redact, left_s()))
    try:
        top = walk.open_folder(layout.workspace, session.workdir.relative_to(layout.workspace).parts)
    except OSError as error:
        errors.append(f"the working folder cannot be read: {error.strerror}")
    else:
        try:
            if job.collect.artifacts:
                await part("what was asked for", _artifacts(job, session, top, outbox, redact, left_s()))
            await part("the list of files", _list(top, redact, left_s()))
        finally:
            os.close(top)
    told = found.get("artifacts_error")
    return {**found, "artifacts_error": "; ".join([*([told] if told else []), *map(redact, errors)])}


async def _transcript(
    job: Job, session: Session, layout: Layout, outbox: OutgoingFiles, redact: Redactor, seconds: float | None
) -> dict[str, Any]:
    if not session.session_id:
        raise NoTranscript("there is no transcript: Claude Code did not begin a session")
    kept = await keep_transcript(
        session.session_id,
        config_folder(session.environment, session.workdir),
        session.workdir,
        homes=(layout.workspace, session.home),
        owner=session.owner,
        max_bytes=job.limits.max_artifact_bytes,
        max_line_bytes=job.limits.max_line_bytes,
        outbox=outbox,
        redact=redact,
        pace=Pace(seconds),
    )
    return {"transcript": kept}


async def _artifacts(
    job: Job, session: Session, top: int, outbox: OutgoingFiles, redact: Redactor, seconds: float | None
) -> dict[str, Any]:
    return await collect_artifacts(
        top,
        job.collect.artifacts,
        owner=session.owner,
        max_bytes=job.limits.max_artifact_bytes,
        outbox=outbox,
        clean=redact,
        seconds=seconds,
    )


async def _list(top: int, redact: Redactor, seconds: float | None) -> dict[str, Any]:
    paths: list[str] = []
    left_out = 0
    pace = Pace(seconds)
    with closing(walk.walk(top, globs.EVERYTHING)) as everything:
        for found in everything:
            await pace.step()
            if found is None or found.status is None:
                continue
            if len(paths) < _MOST_LISTED:
                paths.append(wording.readable(found.path))
            else:
                left_out += 1
    return {"workspace_files": sorted(map(redact, paths)), "workspace_files_left_out": left_out}
