"""A machine in a bubblewrap box: process numbers, /tmp and homes of its own, the host's programs read-only.

The box is entered again with nsenter, through the process that bubblewrap names on its info pipe. Both were measured
with bubblewrap 0.8 and util-linux 2.38: as root no user namespace is needed and changing to another user works inside;
as another user a second one would be made for a /dev of its own, which nsenter could not enter, so /dev is the host's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
from anyio.abc import Process

from flaude.local import processes
from flaude.local.commands import converse
from flaude.local.isolation import COMMAND, BoxName, Executed, Spec
from flaude.local.on_disk import OnDisk
from flaude.local.rootfs import inside, layout

# bubblewrap tells the number of process 1 before the box is made: only the command itself knows that it is. Its stdin
# is a pipe to write to, until then.
_READY_THEN_COMMAND = ("/bin/sh", "-c", 'echo >&0; exec "$@" </dev/null', "sh")


class BubblewrapBox(OnDisk):
    """Starts machines in bubblewrap boxes.

    Args:
        share: Folders of the host that machines may read.
        hide: Folder of the host that they must not see: the one of all machines.

    Raises:
        RuntimeError: bubblewrap or nsenter is not installed.
    """

    name: BoxName = "bubblewrap"

    def __init__(self, *, share: Iterable[Path], hide: Path) -> None:
        self._share = {form for folder in share for form in (folder.absolute(), folder.resolve())}
        self._hide = hide
        self._root = os.geteuid() == 0
        self._bwrap = _tool("bwrap")
        self._nsenter = _tool("nsenter")

    async def start(self, spec: Spec) -> BubblewrapMachine:
        """See `Box.start`."""
        view = await anyio.to_thread.run_sync(self._view, spec)
        with ExitStack() as pipes:
            info, info_in = _pipe(pipes)
            ready, ready_in = _pipe(pipes)
            with await anyio.to_thread.run_sync(spec.log.open, "ab") as log:
                process = await self._open(spec, view, info_in, ready_in, log)
            info_in.close()
            ready_in.close()
            told = await _read(info, json.loads)
            if not told or not await _read(ready, bool):
                code = await process.wait()
                told = await anyio.Path(spec.log).read_bytes()
                raise RuntimeError(f"bwrap ended with {code}: {told.decode('utf-8', 'replace')[-500:].strip()}")
        return BubblewrapMachine(spec, process, json.loads(told)["child-pid"], self._enter_argv())

    async def _open(
        self, spec: Spec, view: Sequence[str], info: IO[bytes], ready: IO[bytes], log: IO[bytes]
    ) -> Process:
        device = ("--dev", "/dev") if self._root else ("--dev-bind", "/dev", "/dev")
        argv = [self._bwrap, "--unshare-pid", "--die-with-parent", "--info-fd", str(info.fileno()), *view]
        return await anyio.open_process(
            [*argv, *device, "--proc", "/proc", "--chdir", "/", "--", *_READY_THEN_COMMAND, *spec.argv],
            stdin=ready,
            stdout=log,
            stderr=log,
            env=spec.env,
            pass_fds=(info.fileno(),),
            start_new_session=True,
        )

    def _enter_argv(self) -> list[str]:
        user = [] if self._root else ["--user", "--preserve-credentials"]
        return [self._nsenter, *user, "--mount", "--pid", "--root", "--wd", "--target"]

    def _view(self, spec: Spec) -> list[str]:
        """The arguments that make the box's file system."""
        folders, files = layout(spec.files)
        own = [Path("/", name) for name in (*folders, *files)]
        view = [word for folder in _opened(own) for word in _copy_of(folder)]
        hidden = [Path("/", name) for name in folders]
        if not _under(self._hide, hidden):
            view += ["--tmpfs", str(self._hide)]
            hidden.append(self._hide)
        for path in own:
            mine = inside(spec.folder, path)
            if mine.exists():
                view += [*_way_to(path), "--bind", str(mine), str(path)]
        # Parents first, or the child would be covered. Name servers may be written down under /run.
        for path in sorted({*spec.image.readable(), *self._share, Path("/etc/resolv.conf").resolve()}):
            if _under(path, hidden):
                view += [*_way_to(path), "--ro-bind-try", str(path), str(path)]
        return view


class BubblewrapMachine:
    """The processes of one machine; see `Running`.

    Args:
        spec: What runs in it.
        process: bubblewrap itself, outside.
        init: Process 1 of the box, by its number outside.
        enter_argv: How nsenter is called; the number is to be added.
    """

    def __init__(self, spec: Spec, process: Process, init: int, enter_argv: Sequence[str]) -> None:
        self._spec = spec
        self._process = process
        self._init = init
        self._enter_argv = enter_argv

    async def wait(self) -> int:
        """See `Running.wait`; a command that was ended by signal n counts as 128+n, bubblewrap tells no more."""
        return await self._process.wait()

    def signal(self, number: int) -> None:
        """See `Running.signal`."""
        # bubblewrap is process 1; the command is its first child. Orphans are its children too, and come later.
        if self._process.returncode is None and (found := processes.children(self._init)):
            processes.send(found[0], number)

    async def kill(self) -> None:
        """See `Running.kill`."""
        if self._process.returncode is None:
            # With process 1 the kernel ends all of them, before bubblewrap outside hears of it.
            processes.send(self._init, signal.SIGKILL)
        with anyio.move_on_after(processes.KILL_WITHIN_S) as scope:
            await self._process.wait()
        if scope.cancelled_caught:
            raise RuntimeError(f"the box of {self._spec.machine_id} cannot be killed: {self._process.pid}")

    async def execute(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> Executed:
        """See `Running.execute`."""
        process = await anyio.open_process(
            [*self._enter_argv, str(self._init), "--", *COMMAND, *argv], env=self._spec.env, start_new_session=True
        )
        return await converse(process, stdin, timeout_s, _end)


async def _end(entered: Process) -> None:
    # nsenter must live to reap its child: without it the host's process 1 would have to, and the box could not end
    # before it does. The child's own children are reaped in the box.
    for pid in processes.children(entered.pid) or [entered.pid]:
        processes.send(pid, signal.SIGKILL)
    await entered.wait()
    processes.send(entered.pid, signal.SIGKILL, group=True)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found


def _pipe(pipes: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return pipes.enter_context(os.fdopen(reading, "rb", 0)), pipes.enter_context(os.fdopen(writing, "wb", 0))


async def _read(pipe: IO[bytes], complete: Callable[[bytes], object]) -> bytes:
    """What comes until it is `complete` (it may raise ValueError until then); empty when nothing comes any more."""
    told = b""
    while True:
        await anyio.wait_readable(pipe)
        piece = pipe.read(4096)
        if not piece:
            return b""
        told += piece
        with suppress(ValueError):
            if complete(told):
                return told


def _under(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _opened(own: Iterable[Path]) -> list[Path]:
    """The host's folders in which something must be made that the host does not have."""
    opened = {Path("/")}
    for path in own:
        if not path.exists():
            opened.add(next(parent for parent in path.parents if parent.is_dir()))
    return sorted(opened)


def _way_to(path: Path) -> list[str]:
    """Makes the folders above a path where they are missing; bubblewrap by itself would make them for root alone."""
    above = [parent for parent in reversed(path.parents) if parent != Path("/")]
    return [word for parent in above for word in ("--dir", str(parent))]


def _copy_of(folder: Path) -> list[str]:
    """A folder that can be added to, with what the host has in it; what the box brings itself is left out."""
    view = [] if folder == Path("/") else ["--tmpfs", str(folder)]
    for entry in sorted(folder.iterdir()):
        if str(entry) in ("/dev", "/proc", "/tmp", "/home", "/root"):  # noqa: S108  # the box has its own
            continue
        if entry.is_symlink():
            view += ["--symlink", str(entry.readlink()), str(entry)]
        else:
            view += ["--ro-bind-try", str(entry), str(entry)]
    return view
