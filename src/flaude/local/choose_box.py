"""Which box machines get on this computer: a trial run says what works."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from flaude.local.bubblewrap import BubblewrapBox
from flaude.local.image import LocalImage
from flaude.local.isolation import Box, BoxName, Spec
from flaude.local.plain import PlainBox
from flaude.local.simulated import SimulatedBox

_log = logging.getLogger(__name__)
_TRIAL_WITHIN_S = 10.0


async def choose(wanted: Literal["auto"] | BoxName, *, folder: Path, share: Iterable[Path], image: LocalImage) -> Box:
    """The box that was asked for; `auto` is bubblewrap where a trial run works, else plain, with a warning in the log.

    Raises:
        RuntimeError: bubblewrap was asked for and does not work; the message says why.
    """
    if wanted == "plain":
        return PlainBox()
    if wanted == "simulated":
        return SimulatedBox()
    try:
        box = await anyio.to_thread.run_sync(lambda: BubblewrapBox(share=share, hide=folder))
        await _try_out(box, folder, image)
    except RuntimeError as error:
        if wanted == "bubblewrap":
            raise RuntimeError(f"bubblewrap boxes do not work here: {error}") from error
        _log.warning("machines are plain processes without a box: bubblewrap does not work here: %s", error)
        return PlainBox()
    return box


async def _try_out(box: Box, folder: Path, image: LocalImage) -> None:
    """Start a box, enter it, look around, kill it."""
    name = f"trial-{secrets.token_hex(4)}"
    own = folder / name
    spec = Spec(name, own, folder / f"{name}.log", ["sleep", "60"], {"PATH": "/usr/bin:/bin"}, image)
    await box.prepare(own, {})
    try:
        with anyio.fail_after(_TRIAL_WITHIN_S):
            running = await box.start(spec)
            try:
                # Process 1 must be the box's, and what is written must arrive in the machine's folder.
                script = 'test "$(cat /proc/1/comm)" = bwrap && echo in >/tmp/trial'
                done = await running.execute(["sh", "-c", script], b"", _TRIAL_WITHIN_S)
                if done.code or not await anyio.Path(own / "tmp/trial").exists():
                    raise RuntimeError(f"a box cannot be entered (nsenter ended with {done.code})")
            finally:
                with anyio.CancelScope(shield=True):
                    await running.kill()
    except TimeoutError as error:
        raise RuntimeError(f"a trial run took more than {_TRIAL_WITHIN_S:g} s") from error
    except OSError as error:
        raise RuntimeError(str(error)) from error
    finally:
        await box.remove(own)
        await anyio.Path(spec.log).unlink(missing_ok=True)
