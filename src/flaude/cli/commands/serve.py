"""`flaude local serve`: the stand-in as a process of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Literal

import anyio
from cyclopts import Parameter

from flaude._model.errors import ConfigError
from flaude.cli.process import prepare_process
from flaude.cli.quirk_options import quirks
from flaude.local import LocalFly


async def serve(
    *,
    port: int = 4280,
    app: tuple[str, ...] = ("my-app",),
    token: str | None = None,
    folder: Path | None = None,
    share: tuple[Path, ...] = (),
    limits: bool = False,
    box: Literal["auto", "bubblewrap", "plain", "simulated"] = "auto",
    quirk: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    kind: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Serve the Machines API on 127.0.0.1; machines are local processes that outlive their client.

    The first two lines of output are what to put into the environment of the client. The last one, when it ends, says
    how often each action was answered with each HTTP status, as JSON (0: not answered).

    Parameters
    ----------
    port
        Port to listen on; 0 for a free one.
    app
        Apps that exist from the start; may be given several times.
    token
        Token that clients must send; a random one when left out.
    folder
        Folder for the machines; a temporary one when left out.
    share
        Folders of this computer that the machines may read; may be given several times.
    limits
        Answer 429 beyond Fly's published rate limits.
    box
        How machines are kept apart: bubblewrap, plain processes, or what is there. With `simulated` they are no
        processes at all, for very many at once.
    quirk
        Where sources disagree about Fly: how to behave, as NAME=VALUE, for example `exec_stdin=yes` or
        `machine_limit=none`; may be given several times. The names are those of `flaude.local.Quirks`.
    kind
        Behave as in the best reading of the sources; without it, as in the worst one.
    """
    prepare_process()
    stand_in = LocalFly(
        port=port,
        apps=app,
        token=token,
        folder=folder,
        share=share,
        limits=limits,
        box=box,
        quirks=quirks(quirk, kind=kind),
    )
    async with AsyncExitStack() as stack:
        try:
            fly = await stack.enter_async_context(stand_in)
        except OSError as error:
            raise ConfigError(f"port: cannot listen on 127.0.0.1:{port}: {error.strerror or error}") from error
        except RuntimeError as error:
            raise ConfigError(f"box: {error}") from error
        print(f"export FLY_FLAPS_BASE_URL={fly.base_url}")
        print(f"export FLY_API_TOKEN={fly.token}")
        print(f"# machines: {fly.box} boxes in {fly.folder}; Ctrl-C ends them all", flush=True)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                break
    print(f"# requests: {json.dumps(_counted(fly.requests))}", flush=True)
    return 0


def _counted(requests: Mapping[tuple[str, int], int]) -> dict[str, dict[int, int]]:
    counted: dict[str, dict[int, int]] = {}
    for (action, status), count in sorted(requests.items()):
        counted.setdefault(action, {})[status] = count
    return counted
