"""The stand-in as one object with a lifetime."""

from __future__ import annotations

import secrets
import shlex
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from flaude.local import rootfs
from flaude.local.choose_box import choose
from flaude.local.faults import Fault, made
from flaude.local.image import LocalImage
from flaude.local.isolation import Box, BoxName
from flaude.local.limits import Limits
from flaude.local.middleware import Exchange, Middleware
from flaude.local.quirks import Quirks
from flaude.local.routes import application
from flaude.local.server import listening, serving
from flaude.local.state import State
from flaude.local.tokens import LocalTokens


class LocalFly:
    """Fly's Machines API on 127.0.0.1, for as long as the `async with` block lasts; machines are local processes.

    Entering takes a free port, tries out the box and serves. Leaving kills every machine, confirms that, and removes
    the folder if it was a temporary one. Machines do not depend on the client: it may go away and come back. Needs
    anyio's asyncio backend.

    Args:
        apps: Names of apps that exist from the start.
        taken: Names of apps that belong to somebody else: nobody can see them, or make one of that name.
        folder: Folder for the machines; a temporary one when left out.
        image: What every image has that is not in `images`; `LocalImage.default()` when left out.
        images: What certain images have, by the name that a machine's config gives.
        share: Folders of this computer that machines may read, at the same path.
        limits: Answer 429 beyond Fly's published rate limits.
        box: How machines are kept apart; `auto` is bubblewrap where it works, else plain, with a warning in the log.
            With `simulated` they are no processes: flaude's guest is simulated, and its agent does what needs no disk
            and no process. It is for very many machines at once.
        boot_s: Seconds that a machine is `created` before its process starts.
        remember_s: Seconds for which a destroyed machine can still be read; then it is a 404. Fly's time is not known.
        quirks: How it behaves where sources disagree about Fly; the worst reading of each when left out.
        faults: What goes wrong on request; `faults` can be changed later.
        seed: Of the random numbers that faults with a `chance` go by.
        token: Token that clients must send; a random one when left out.
        port: Port; 0 is any free one.
        on_exchange: Called with every request that was answered in order, not with those that a fault spoiled. What it
            or a fault's hook raises is raised when the block is left.

    Raises:
        OSError: On entering: the port cannot be had.
        RuntimeError: On entering: `box="bubblewrap"` and it does not work here; on leaving: a process cannot be killed.
        ExceptionGroup: On leaving: what `on_exchange` or a hook raised.
    """

    def __init__(
        self,
        *,
        apps: Iterable[str] = (),
        taken: Iterable[str] = (),
        folder: Path | None = None,
        image: LocalImage | None = None,
        images: Mapping[str, LocalImage] | None = None,
        share: Sequence[Path] = (),
        limits: bool = False,
        box: Literal["auto", "bubblewrap", "plain", "simulated"] = "auto",
        boot_s: float = 0.0,
        remember_s: float = 60.0,
        quirks: Quirks | None = None,
        faults: Iterable[Fault] = (),
        seed: int = 0,
        token: str | None = None,
        port: int = 0,
        on_exchange: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._apps = tuple(apps)
        self._taken = frozenset(taken)
        self._folder = folder
        self._image = image
        self._images = dict(images or {})
        self._share = tuple(share)
        self._limits = limits
        self._wanted_box = box
        self._boot_s = boot_s
        self._remember_s = remember_s
        self._quirks = quirks or Quirks()
        self._port = port
        self._on_exchange = on_exchange
        self._life: AbstractAsyncContextManager[None] | None = None
        self._entered: State | None = None
        self._gate: Middleware | None = None
        self._tokens: LocalTokens | None = None
        self.faults = made(faults, seed)
        self.token = token or f"local-{secrets.token_hex(16)}"
        self.base_url = ""

    def __repr__(self) -> str:
        if self._entered is None:
            return "LocalFly(not entered)"
        return f"LocalFly({self.base_url}, {self.box}, {len(self.created)} machines created, {self.alive} alive)"

    async def __aenter__(self) -> Self:
        self._life = self._live()
        await self._life.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        life, self._life = self._life, None
        if life is not None:
            # The block's own error stays out of the task groups: they would wrap it.
            await life.__aexit__(None, None, None)
        if kind is None and self._gate and self._gate.complaints:
            raise ExceptionGroup("on_exchange or a hook complained", self._gate.complaints)

    @property
    def box(self) -> BoxName:
        """How machines are kept apart here."""
        return self._world.box.name

    @property
    def folder(self) -> Path:
        """Folder that holds the machines' own folders."""
        return self._world.folder

    @property
    def quirks(self) -> Quirks:
        """How it behaves where sources disagree about Fly; may be set to something else while it serves."""
        return self._quirks

    @quirks.setter
    def quirks(self, quirks: Quirks) -> None:
        self._quirks = quirks
        if self._entered is not None:
            self._entered.quirks = quirks

    @property
    def requests(self) -> Counter[tuple[str, int]]:
        """How often each action was answered with each status, such as `("create_machine", 200)`; 0 is no answer."""
        return self._gate.requests if self._gate else Counter()

    @property
    def created(self) -> list[str]:
        """Ids of all machines that were ever created, oldest first."""
        return self._world.created

    @property
    def alive(self) -> int:
        """Number of machines whose process lives."""
        return self._world.alive

    @property
    def peak_alive(self) -> int:
        """The most machines that were alive at once."""
        return self._world.peak_alive

    def renew_token(self) -> str:
        """Make another token, which is `token` from now on; the one before is refused at once, as one that has expired.

        As flyctl does with the token of `fly auth login`. A client that has the old one is not told.
        """
        if self._tokens is None:
            raise RuntimeError("LocalFly is used outside of its `async with` block")
        self.token = self._tokens.renew()
        return self.token

    def machine_folder(self, machine_id: str) -> Path:
        """The machine's own folder, laid out as its `/`; there while the machine is.

        What its command prints is in `ID.log` beside it.
        """
        return self._world.machine_folder(machine_id)

    @property
    def _world(self) -> State:
        if self._entered is None:
            raise RuntimeError("LocalFly is used outside of its `async with` block")
        return self._entered

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        async with _folder(self._folder) as folder:
            await anyio.to_thread.run_sync(_write_programs, folder)
            image = self._image
            if image is None:
                image = await anyio.to_thread.run_sync(LocalImage.default)
            image = _complete(image, folder)
            # What may fail comes before the task group, which would wrap its error.
            box = await choose(self._wanted_box, folder=folder, share=self._share, image=image)
            with listening(self._port) as listener:
                self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                async with self._serving(folder, image, box, listener):
                    yield

    @asynccontextmanager
    async def _serving(self, folder: Path, image: LocalImage, box: Box, listener: socket.socket) -> AsyncIterator[None]:
        async with anyio.create_task_group() as machines:
            world = self._entered = self._make_world(folder, image, box, machines)
            tokens = self._tokens = LocalTokens(self.token, self._quirks.token_lives_s, anyio.current_time)
            gate = self._gate = Middleware(world, tokens=tokens, faults=self.faults, on_exchange=self._on_exchange)
            async with serving(application(gate), listener, fast=box.name == "simulated"):
                try:
                    yield
                finally:
                    gate.close()
                    # Bounded by what kills processes: that gives up loudly.
                    with anyio.CancelScope(shield=True):
                        await world.destroy_all()

    def _make_world(self, folder: Path, image: LocalImage, box: Box, machines: TaskGroup) -> State:
        world = State(
            box=box,
            folder=folder,
            default_image=image,
            images={name: _complete(image, folder) for name, image in self._images.items()},
            boot_s=self._boot_s,
            remember_s=self._remember_s,
            quirks=self._quirks,
            limits=Limits(anyio.current_time) if self._limits else None,
            tasks=machines,
            taken=self._taken,
        )
        for name in self._apps:
            world.add_app(name)
        return world


@asynccontextmanager
async def _folder(given: Path | None) -> AsyncIterator[Path]:
    folder = await anyio.to_thread.run_sync(_make_folder, given)
    try:
        yield folder
    finally:
        if given is None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(rootfs.remove, folder)


def _make_folder(given: Path | None) -> Path:
    folder = given or Path(tempfile.mkdtemp(prefix="flaude-local-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _write_programs(folder: Path) -> None:
    """Put the scripted `claude` where machines find it."""
    programs = folder / "image" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (folder / "machines").mkdir(exist_ok=True)
    script = folder / "image" / "scripted_claude.py"
    script.write_bytes(files("flaude.local").joinpath("scripted_claude.py").read_bytes())
    python = shlex.quote(str(Path(sys.base_prefix, "bin", "python3")))
    (programs / "claude").write_text(f'#!/bin/sh\nexec {python} -I -S {shlex.quote(str(script))} "$@"\n')
    (programs / "claude").chmod(0o755)
    script.chmod(0o644)


def _complete(image: LocalImage, folder: Path) -> LocalImage:
    return replace(image, path=(folder / "image" / "bin", *image.path)) if image.scripted_claude else image
