"""The files that a guest keeps for us, as they arrive: patches into memory, artifacts and transcript onto the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import anyio

from flaude.errors import GuestError
from flaude.link import GuestLink
from flaude.protocol import GuestArtifact, GuestFile, GuestResult
from flaude.results import Artifact, Omitted


@dataclass(frozen=True)
class Arrived:
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


class Fetching:
    """What has arrived of one attempt, piece by piece, so that no blip makes it begin anew.

    Args:
        folder: Where artifacts and transcript go, `artifacts/…` and `transcript.jsonl`; made when there are any.
    """

    def __init__(self, folder: Path) -> None:
        self._contents: dict[str, bytes] = {}
        self._artifacts: list[Artifact] = []
        self._transcript: Artifact | None = None
        self._lost: list[Omitted] = []
        self._folder = folder
        self._done: set[str] = set()
        self._download: _Download | None = None

    @property
    def arrived(self) -> Arrived:
        """What there is by now."""
        return Arrived(dict(self._contents), tuple(self._artifacts), self._transcript, tuple(self._lost))

    async def go_on(self, link: GuestLink, result: GuestResult) -> bool:
        """Fetch one more piece, patches first; whether there was one left to fetch.

        Raises:
            GuestError: It arrived damaged, or the guest does not have it; what has arrived before is kept.
            FlyError: As `GuestLink.fetch`.
        """
        for name in (name for repo in result.repos for name in repo.files):
            if name not in self._contents:
                self._contents[name] = await link.fetch(result.file(name))
                return True
        for artifact in result.artifacts:
            if artifact.file not in self._done:
                file = Path("artifacts", *PurePosixPath(artifact.path).parts)
                await self._fetch(link, artifact, result.file(artifact.file), file)
                return True
        if result.transcript and result.transcript.file not in self._done:
            await self._fetch(link, result.transcript, result.file(result.transcript.file), Path("transcript.jsonl"))
            return True
        return False

    async def _fetch(self, link: GuestLink, artifact: GuestArtifact, file: GuestFile, target: Path) -> None:
        if self._download is None:
            self._download = _Download(file, self._folder / ".part")
        try:
            path = self._place(artifact, target)
            if not await self._download.go_on(link):
                return
            await anyio.Path(path.parent).mkdir(parents=True, exist_ok=True)
            await self._download.move_to(path)
        except OSError as error:
            # The disk here is full, or its file system does not take the name: the rest comes all the same.
            reason = f"could not be written: {error.strerror or error}"
            self._lost.append(Omitted(path=artifact.path, size=file.size, reason=reason))
        else:
            found = Artifact(path=artifact.path, size=file.size, sha256=file.sha256, file=path)
            if target.parts[0] == "artifacts":
                self._artifacts.append(found)
            else:
                self._transcript = found
        self._done.add(artifact.file)
        self._download = None

    def _place(self, artifact: GuestArtifact, target: Path) -> Path:
        """Where it is to lie, if it may lie there."""
        path = self._folder / target
        if not _lies_below(artifact.path):
            raise OSError("its path leads out of its folder")
        if any(other.file == path for other in self._artifacts):
            raise OSError("another file has the same name here")
        return path


class _Download:
    """One file on its way to the disk."""

    def __init__(self, file: GuestFile, part: Path) -> None:
        self._file = file
        self._part = anyio.Path(part)
        self._size = 0
        self._checksum = hashlib.sha256()

    async def go_on(self, link: GuestLink) -> bool:
        """Fetch and write one more piece; whether the file is whole now.

        Raises:
            GuestError: Its checksum is wrong: it begins anew.
            OSError: It could not be written.
        """
        if self._size == 0:
            await self._part.parent.mkdir(parents=True, exist_ok=True)
            await self._part.write_bytes(b"")
        piece = await link.piece(self._file, self._size) if self._file.size else b""
        with anyio.CancelScope(shield=True):  # written and counted, or neither
            async with await self._part.open("ab") as opened:
                await opened.write(piece)
            self._size += len(piece)
            self._checksum.update(piece)
        if self._size < self._file.size:
            return False
        if self._checksum.hexdigest() != self._file.sha256:
            self._size, self._checksum = 0, hashlib.sha256()
            raise GuestError(f"{self._file.name} arrived damaged: its SHA-256 is not {self._file.sha256}")
        return True

    async def move_to(self, path: Path) -> None:
        """Give it its name, now that it is whole."""
        await self._part.replace(path)


def _lies_below(path: str) -> bool:
    """Whether a path that the guest names stays in the folder that it is relative to."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path
