"""What flaude needs, each looked at by itself; nothing is changed by it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import anyio
import anyio.to_thread

from flaude._model.config import DEFAULT_IMAGE
from flaude._model.data_folder import home_folder
from flaude._model.errors import ConfigError, JournalError, NoTokenError
from flaude._providers.fly.connection import FLYCTL, base_url, find_token_and_place
from flaude._providers.fly.probe import saved
from flaude.journal.looking import look
from flaude.local.choose_box import choose
from flaude.local.image import LocalImage

_CREDENTIALS = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY")
_LASTING = "fly tokens create deploy -a my-app -x 24h"
_OLDEST_PYTHON = (3, 11)


class Verdict(StrEnum):
    """What is to be thought of something."""

    RIGHT = "right"
    WRONG = "wrong"
    NOTE = "note"
    """Neither, and worth knowing."""


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        name: Of what.
        verdict: Whether it is as it should be.
        found: What there is, for people; never the value of a secret.
        fix: What to do; empty where nothing is to be done.
    """

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


async def python() -> Check:
    """The Python that runs this."""
    right = sys.version_info >= _OLDEST_PYTHON
    verdict = Verdict.RIGHT if right else Verdict.WRONG
    return Check("python", verdict, platform.python_version(), "" if right else "install Python 3.11 or newer")


async def git() -> Check:
    """Git, which takes patches here."""
    path = await anyio.to_thread.run_sync(shutil.which, "git")
    if path is None:
        return Check("git", Verdict.WRONG, "not on PATH", "install git: patches are for `git apply`")
    done = await anyio.run_process([path, "--version"], check=False)
    told = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        return Check("git", Verdict.WRONG, f"{path} ends with {done.returncode}", "install git again")
    return Check("git", Verdict.RIGHT, told.removeprefix("git version "))


async def bubblewrap() -> Check:
    """Whether machines of `--local` are in boxes; on Fly it does not matter."""
    try:
        async with anyio.TemporaryDirectory(prefix="flaude-doctor-") as folder:
            image = await anyio.to_thread.run_sync(LocalImage.host)
            await choose("bubblewrap", folder=Path(folder), share=(), image=image)
    except RuntimeError as error:
        why = str(error).removeprefix("bubblewrap boxes do not work here: ")
        fix = "install bubblewrap to keep local machines apart; on Fly it does not matter"
        return Check("bubblewrap", Verdict.NOTE, f"local machines are plain processes: {why}", fix)
    return Check("bubblewrap", Verdict.RIGHT, "local machines are in boxes")


async def fly_token(environ: Mapping[str, str]) -> Check:
    """Where a Fly token is, and whether it lasts."""
    lasts = f"export FLY_API_TOKEN=$({_LASTING})"
    try:
        _, place = await anyio.to_thread.run_sync(find_token_and_place, None, environ)
    except NoTokenError:
        return Check("fly token", Verdict.WRONG, "there is none", f"{lasts}; or log in with `fly auth login`")
    except ConfigError as error:
        return Check("fly token", Verdict.WRONG, str(error), "set it again, as `fly tokens create` has printed it")
    if place == FLYCTL:
        found = f"from {place}; it can die within minutes of your last `fly` command, in the middle of a batch"
        return Check("fly token", Verdict.NOTE, found, lasts)
    return Check("fly token", Verdict.RIGHT, f"from {place}")


async def image() -> Check:
    """What a machine has when nobody says otherwise."""
    told = f"{DEFAULT_IMAGE} unless a task names another: Claude Code is installed into it at each start (10 to 30 s)"
    fix = "for faster starts build flaude's Dockerfile, push it, and name it as `image`"
    return Check("image", Verdict.NOTE, told, fix)


async def claude_credentials(environ: Mapping[str, str]) -> Check:
    """Which variable lets Claude Code in."""
    name, found = "claude credentials", [variable for variable in _CREDENTIALS if environ.get(variable)]
    match found:
        case []:
            fix = f"`claude setup-token` makes a long-lived token: put it into {_CREDENTIALS[0]}"
            return Check(name, Verdict.WRONG, f"neither {_CREDENTIALS[0]} nor {_CREDENTIALS[1]} is set", fix)
        case [only]:
            return Check(name, Verdict.RIGHT, f"from {only}")
        case [first, *others]:
            fix = f"unset {' and '.join(others)} if that is not what you want, or the other way round"
            return Check(name, Verdict.NOTE, f"both {first} and {', '.join(others)} are set; {first} is used", fix)
    raise AssertionError(found)


async def journal(environ: Mapping[str, str]) -> Check:
    """Whether batches can be recorded."""
    fix = "set FLAUDE_HOME to a folder that can be written"
    try:
        seen = await anyio.to_thread.run_sync(look, home_folder(environ))
    except JournalError as error:
        return Check("journal", Verdict.WRONG, str(error), fix)
    if seen.problem:
        newer = seen.version is not None and seen.version > seen.known
        return Check("journal", Verdict.WRONG, seen.problem, "" if newer else fix)
    version = "not there yet" if seen.version is None else f"version {seen.version}"
    return Check("journal", Verdict.RIGHT, f"{seen.folder}, {version}")


async def measurements(environ: Mapping[str, str]) -> Sequence[Check]:
    """What `doctor --live --save` has kept of this API, which runs go by; nothing where there is nothing."""
    name = "measurements"
    try:
        url = base_url(None, environ)
        kept = await anyio.to_thread.run_sync(saved.load, url)
    except ConfigError:
        return []  # `fly api` says it
    except ValueError as error:
        return [Check(name, Verdict.NOTE, f"not used: {error}", "flaude doctor --live --save measures again")]
    if kept is None:
        return []
    limits, days = kept.limits(), (datetime.now(UTC) - kept.at).days
    old = "today" if days < 1 else f"{days} days ago"
    told = (
        f"used, of {kept.at:%Y-%m-%d} ({old}): up to {limits.body_bytes} bytes in one exec, standard input "
        f"{'arrives' if limits.stdin else 'is not used'}, pulls wait up to {limits.longest_wait_s:g} s"
    )
    return [Check(name, Verdict.RIGHT, told, f"to forget them delete {saved.saved_file()}")]
