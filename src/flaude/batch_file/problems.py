"""What is wrong with a batch file: every problem with its place, and all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from flaude._model.errors import ConfigError
from flaude.batch_file.nodes import Node, Place

_SHOWN = 50
_MOST = 1000


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: Name of the file, as the user gave it; `<stdin>` for standard input.
        line: From 1; 0 when the file as a whole is meant.
        column: From 1, in characters; 0 likewise.
        field: What it is about, such as `tasks[3].vm_size`; may be empty.
        message: What is wrong with it, and the fix. Never shows a secret.
    """

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        """`file:line:column field message`, on one line whatever the file has in it."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else f"{self.file}:"
        return printable(" ".join(filter(None, (place, self.field, self.message))))


class BatchFileError(ConfigError):
    """A batch file is of no use; the message has all that is wrong with it.

    Args:
        problems: What is wrong, at least one thing.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        lines = [str(problem) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"and {len(self.problems) - _SHOWN} more")
        if len(self.problems) > 1:
            count = str(len(self.problems)) if len(self.problems) < _MOST else f"{_MOST} and more"
            lines.insert(0, f"{count} things are wrong:")
        super().__init__("\n".join(lines), [(problem.field, problem.message) for problem in self.problems])


def refusal(place: Place, message: str, field: str = "") -> BatchFileError:
    """The error of a file that cannot be read on from here."""
    return BatchFileError([Problem(place.file, place.line, place.column, field, message)])


class Problems:
    """Collects problems; the same one twice is one, and a thousand are enough.

    Args:
        format_: What the file is written in, for messages that say what to write.
    """

    def __init__(self, format_: str = "yaml") -> None:
        self._format = format_
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def reference(self, variable: str) -> str:
        """How a secret is written that is in an environment variable."""
        written = {"toml": f'{{ env = "{variable}" }}', "yaml": f"{{env: {variable}}}"}
        return written.get(self._format, f'{{"env": "{variable}"}}')

    def add(self, where: Node | Place, field: str, message: str) -> None:
        """Note a problem.

        Raises:
            BatchFileError: There are too many for anybody to read on.
        """
        place = where.place if isinstance(where, Node) else where
        self._found[Problem(place.file, place.line, place.column, field, message)] = None
        if len(self._found) >= _MOST:
            raise BatchFileError(self._found)

    def add_all(self, error: BatchFileError) -> None:
        """Note what kept a part of the file from being read."""
        for problem in error.problems:
            self.add(Place(problem.file, problem.line, problem.column), problem.field, problem.message)

    def check(self) -> None:
        """Go on only when nothing is wrong.

        Raises:
            BatchFileError: Something is.
        """
        if self._found:
            raise BatchFileError(self._found)


def printable(text: str) -> str:
    """`text` with everything escaped that could move a terminal's cursor, colour it or turn its direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(text: str, longest: int = 60) -> str:
    """A text of the file in quotes, cut at a length."""
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")


def nearest(name: str, names: Sequence[str]) -> list[str]:
    """The one or two of `names` that are most like `name`, if any is."""
    plain = {_plain(known): known for known in names}
    found = get_close_matches(_plain(name), list(plain), n=2, cutoff=0.65)
    if found and _plain(name) == found[0]:
        del found[1:]
    return [plain[one] for one in found]


def did_you_mean(names: Sequence[str]) -> str:
    """The question at the end of a message; empty without names."""
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _plain(name: str) -> str:
    return name[:100].lower().replace("-", "_").replace(" ", "_")
