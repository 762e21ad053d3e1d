"""The files that a guest keeps for us, as they arrive: patches into memory, artifacts and transcript onto the disk."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath

import anyio
import anyio.to_thread

from flaude._guest.client import SupervisorClient
from flaude._guest.messages import GuestArtifact, GuestFile, GuestResult
from flaude._model.errors import GuestError
from flaude._model.run_result import Artifact, Omitted

_MOST_DAMAGED = 5
_MOST_TOGETHER = 500
_SMALL_BYTES = 256 * 1024


@dataclass(frozen=True)
class Downloaded:
    """What has arrived of an attempt.

    Attributes:
        contents: Patches and mails, by the names that the guest gave them.
        artifacts: Files that lie on the disk now.
        transcript: Likewise.
        lost: Files that could not be written.
    """

    contents: Mapping[str, bytes] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    transcript: Artifact | None = None
    lost: tuple[Omitted, ...] = ()


class Downloader:
    """What has arrived of one attempt, piece by piece, so that no blip makes it begin anew.

    Args:
        folder: Where artifacts and transcript go, `artifacts/…` and `transcript.jsonl`; made when there are any.
        downloaded: What somebody else has fetched before.
        anew: Whether somebody else may have left files there that are fetched again.
    """

    def __init__(self, folder: Path, downloaded: Downloaded | None = None, *, anew: bool = False) -> None:
        self._folder = folder
        self._anew = anew
        self._waiting: deque[_Download] | None = None
        downloaded = downloaded or Downloaded()
        self._contents = dict(downloaded.contents)
        self._artifacts = list(downloaded.artifacts)
        self._transcript = downloaded.transcript
        self._lost = list(downloaded.lost)

    @property
    def downloaded(self) -> Downloaded:
        """What there is by now."""
        return Downloaded(dict(self._contents), tuple(self._artifacts), self._transcript, tuple(self._lost))

    async def go_on(self, link: SupervisorClient, result: GuestResult) -> bool:
        """Fetch one more piece, patches first; whether there was one left to fetch.

        Raises:
            GuestError: It arrived damaged, or the guest does not have it; what has arrived before is kept.
            FlyError: As `SupervisorClient.fetch`.
        """
        if self._waiting is None:
            if self._anew:
                await anyio.to_thread.run_sync(_clear, self._folder)
            self._waiting = deque(self._downloads(result))
        if not self._waiting:
            return False
        download = self._waiting[0]
        try:
            whole = download.is_whole or await self._fetch(link, download)
        except (OSError, ValueError) as error:
            await self._lose(download, _not_written(error))
        except GuestError as error:
            download.damaged += 1
            # A patch is waited for as long as Fly is; a file that is never whole must not keep the others waiting.
            if download.artifact is None or download.damaged < _MOST_DAMAGED:
                raise
            await self._lose(download, str(error))
        else:
            if whole:
                await self._keep(download)
        return True

    async def close(self) -> None:
        """Leave nothing half done behind."""
        for download in self._waiting or ():
            await download.discard()

    def _downloads(self, result: GuestResult) -> Iterator[_Download]:
        files = {file.name: file for file in result.files}

        def file(name: str) -> GuestFile:
            return files.get(name) or result.file(name)

        for repo in result.repos:
            yield from (_Download(file(name)) for name in repo.files)
        for number, artifact in enumerate(result.artifacts):
            yield _Download(file(artifact.file), artifact, self._folder / f".part-{number}")
        if result.transcript:
            yield _Download(
                file(result.transcript.file), result.transcript, self._folder / ".part-transcript", last=True
            )

    async def _fetch(self, link: SupervisorClient, download: _Download) -> bool:
        """One more piece of it, or it and the small ones that follow, in one call; whether it is whole."""
        together = list(islice(takewhile(_is_small, self._waiting or ()), _MOST_TOGETHER))
        if len(together) <= 1:
            return await download.go_on(link)
        contents = await link.fetch_together([other.file for other in together])
        for other in together:
            other.content = contents.get(other.file.name)
        return download.is_whole

    async def _keep(self, download: _Download) -> None:
        """It is whole: put it where it belongs."""
        artifact = download.artifact
        if artifact is None:
            self._contents[download.file.name] = download.content or b""
            self._done()
            return
        path = self._folder / (
            "transcript.jsonl" if download.last else Path("artifacts", *PurePosixPath(artifact.path).parts)
        )
        try:
            _check(artifact.path)
            await download.move_to(path)
        except (OSError, ValueError) as error:
            await self._lose(download, _not_written(error))
            return
        found = Artifact(path=artifact.path, size=download.file.size, sha256=download.file.sha256, file=path)
        if download.last:
            self._transcript = found
        else:
            self._artifacts.append(found)
        self._done()

    async def _lose(self, download: _Download, reason: str) -> None:
        path = download.artifact.path if download.artifact else download.file.name
        self._lost.append(Omitted(path=path, size=download.file.size, reason=reason))
        await download.discard()
        self._done()

    def _done(self) -> None:
        if self._waiting:
            self._waiting.popleft()


class _Download:
    """One file on its way: a patch or a small file in memory, another one to the disk.

    Args:
        file: The file.
        artifact: What it is, unless it is a patch.
        part: Where it grows.
        last: Whether it is the transcript.
    """

    def __init__(
        self, file: GuestFile, artifact: GuestArtifact | None = None, part: Path | None = None, *, last: bool = False
    ) -> None:
        self.file = file
        self.artifact = artifact
        self.last = last
        self.damaged = 0
        self.content: bytes | None = None
        self._part = part
        self._has_part = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._checksum = hashlib.sha256()
        self._on_disk = False

    @property
    def is_whole(self) -> bool:
        """Whether it is here and what it should be."""
        return self.content is not None or (self._on_disk and self._size == self.file.size)

    async def go_on(self, link: SupervisorClient) -> bool:
        """Fetch one more piece; whether the file is whole now.

        Raises:
            GuestError: It did not arrive, or its checksum is wrong: then it begins anew.
            OSError: It could not be written.
        """
        piece = await link.piece(self.file, self._size) if self.file.size else b""
        with anyio.CancelScope(shield=True):  # kept and counted, or neither
            if self._part is None:
                self._pieces.append(piece)
                self._count(piece)
            else:
                await anyio.to_thread.run_sync(self._write, self._part, piece)
        if self._size < self.file.size:
            return False
        if self._checksum.hexdigest() != self.file.sha256:
            self._pieces, self._size, self._checksum = [], 0, hashlib.sha256()
            raise GuestError(f"{self.file.name} arrived damaged: its SHA-256 is not {self.file.sha256}")
        if self._part is None:
            self.content = b"".join(self._pieces)
        self._on_disk = self._part is not None
        return True

    def _write(self, part: Path, piece: bytes) -> None:
        self._has_part = True
        if self._size == 0:
            part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if self._size else "wb") as opened:
            opened.write(piece)
        self._count(piece)

    def _count(self, piece: bytes) -> None:
        self._size += len(piece)
        self._checksum.update(piece)

    async def move_to(self, path: Path) -> None:
        """Give it its name, now that it is whole.

        Raises:
            OSError: It could not be written.
            ValueError: The name is none.
        """
        await anyio.to_thread.run_sync(self._move_to, path)  # in one go: of small files there may be thousands

    def _move_to(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # in a file system that does not tell them apart
            raise ValueError("another file has the same name here")
        if self.content is not None:
            path.write_bytes(self.content)
        elif self._part is not None:
            self._part.replace(path)
            self._has_part = False

    async def discard(self) -> None:
        """Leave nothing of it on the disk."""
        if self._part is not None and self._has_part:
            with contextlib.suppress(OSError, ValueError):  # that the file is lost is told already
                await anyio.to_thread.run_sync(lambda part: part.unlink(missing_ok=True), self._part)


def _is_small(download: _Download) -> bool:
    """Whether it is one of many files that are better fetched together: each call takes a second."""
    return (
        download.artifact is not None
        and not download.is_whole
        and download.file.data is None
        and 0 < download.file.size <= _SMALL_BYTES
        and not download.damaged
    )


def _clear(folder: Path) -> None:
    """Remove what was fetched into a folder before."""
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    for left in (folder / "transcript.jsonl", *folder.glob(".part-*")):
        with contextlib.suppress(OSError):  # what cannot be removed is told when it is written
            left.unlink(missing_ok=True)


def _check(path: str) -> None:
    """Whether a path that the guest names stays in the folder that it is relative to."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError("its path leads out of its folder")


def _not_written(error: Exception) -> str:
    # The disk here is full, or its file system does not take the name: the rest comes all the same.
    return f"could not be written: {getattr(error, 'strerror', None) or error}"
