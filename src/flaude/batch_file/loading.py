"""A batch file as settings and requests."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from flaude._model.timeouts import Timeouts
from flaude.batch_file.files import LARGEST, UnreadableError, read_bytes
from flaude.batch_file.formats import STDIN, Format
from flaude.batch_file.nodes import Place
from flaude.batch_file.parsing import parse
from flaude.batch_file.problems import refusal
from flaude.batch_file.spec import BatchSpec, Given


async def load(
    source: str | Path,
    *,
    environ: Mapping[str, str],
    app: str | None = None,
    format: Format | None = None,  # noqa: A002  # the option's name
    prompt: str | None = None,
    repos: Sequence[str] = (),
    timeouts: Timeouts | None = None,
) -> BatchSpec:
    """Read a batch file and check all of it; nothing is made, and nothing but files is looked at.

    Args:
        source: The file's path; `-` for standard input.
        environ: Where the secrets are that the file names, and FLY_APP.
        app: The Fly app, whatever the file says.
        format: What the file is written in; else told by its suffix, and for standard input by its first character.
        prompt: For CSV, the prompt of every row, with `{column}`s.
        repos: For CSV, the repositories of every row, likewise.
        timeouts: What the file does not say of them; the usual ones when left out.

    Raises:
        BatchFileError: The file cannot be read, or something in it is of no use: all of it at once.
    """
    given = Given(environ, app, prompt, tuple(repos), timeouts or Timeouts())
    if str(source) == "-":
        data = await _standard_input()
        return await to_thread.run_sync(partial(parse, data, STDIN, format, given, Path()))
    return await to_thread.run_sync(partial(_read, Path(source), str(source), format, given))


async def _standard_input() -> bytes:
    data = b""
    try:
        descriptor = sys.stdin.fileno()
        while len(data) <= LARGEST:
            # A thread that waits for a terminal would outlive Ctrl-C. A file needs no waiting, and refuses it.
            with suppress(OSError):
                await anyio.wait_readable(descriptor)
            piece = await to_thread.run_sync(os.read, descriptor, 1 << 16)
            if not piece:
                break
            data += piece
    except (OSError, ValueError, AttributeError) as error:  # it may be closed, or no file at all
        reason = error.strerror if isinstance(error, OSError) else "there is none"
        raise refusal(Place(STDIN), f"cannot be read: {reason or error}") from None
    return data


def _read(path: Path, name: str, format_: Format | None, given: Given) -> BatchSpec:
    try:
        data = read_bytes(path)
    except UnreadableError as error:
        raise refusal(Place(name), str(error)) from None
    return parse(data, name, format_, given, path.parent)
