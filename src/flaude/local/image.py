"""What an image has, on a computer where no image is pulled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class LocalImage:
    """Folders of programs and the environment that an image brings.

    Attributes:
        path: The machine's PATH. In a bubblewrap box these folders are readable even where they lie under a home
            folder that is hidden; of one named `bin` or `.bin` its parent too, where its libraries are.
        env: `ENV` of the image.
        scripted_claude: Whether `claude` is the scripted stand-in (`flaude.local.scripted_claude`), first on PATH.
    """

    path: tuple[Path, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    scripted_claude: bool = False

    @classmethod
    def host(cls, *, extra: Sequence[Path] = (), env: Mapping[str, str] | None = None) -> Self:
        """`python3` (the one that runs this, without its virtual environment), `git` and the usual system folders.

        Args:
            extra: Folders that go before these.
            env: `ENV` of the image.
        """
        git = shutil.which("git")
        folders = [*extra, Path(sys.base_prefix, "bin"), *([Path(git).parent] if git else []), *map(Path, _SYSTEM)]
        return cls(tuple(dict.fromkeys(folder for folder in folders if folder.is_dir())), env or {})

    @classmethod
    def default(cls, *, env: Mapping[str, str] | None = None) -> Self:
        """The image of a machine when nothing else is said: `host` and the scripted `claude`.

        Args:
            env: `ENV` of the image.
        """
        host = cls.host(env=env)
        return cls(host.path, host.env, scripted_claude=True)

    def readable(self) -> set[Path]:
        """Folders that its programs need, as they are called and as they really are."""
        folders = {Path(sys.base_prefix)} if Path(sys.base_prefix, "bin") in self.path else set()
        homes = {Path("/"), Path("/home"), Path.home(), *Path("/home").glob("*")}
        for folder in self.path:
            holder = folder.parent
            # ~/bin and ~/.local/bin: their parents hold much more than programs.
            whole = folder.name in ("bin", ".bin") and holder.name != ".local" and holder not in homes
            folders.add(holder if whole else folder)
        return {form for folder in folders for form in (folder, folder.resolve())}
