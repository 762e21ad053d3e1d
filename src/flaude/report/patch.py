"""A patch as people read it: by file, its lines by what they are, and no more of it than fits. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup

from flaude._model.run_result import FileChange, RepoResult
from flaude.report.limits import Limits
from flaude.report.text import marked

_BEGIN = b"diff --git "
_OPEN_UP_TO = 60
"""Lines of a file that are shown without being asked for."""

_ELEMENT = len('<span class="x"></span>')
_BINARY = re.compile(rb"^(GIT binary patch$|Binary files )", re.MULTILINE)
_KINDS = {"+": "a", "-": "d", "@": "h", "\\": "m"}
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}


@dataclass(frozen=True)
class FilePatch:
    """One file of a patch.

    Attributes:
        path: Its path in the repository.
        old_path: Where it was before; empty when it was there.
        status: Git's letter: A added, M modified, D deleted, R renamed, C copied, T type changed.
        added: Added lines.
        removed: Removed lines.
        binary: Whether git takes it for binary.
        html: Its lines, those next to each other of one kind in one element; empty when none of it is shown.
        left_out: Lines that are not shown, and those that are not shown to their end.
        is_open: Whether it is short enough to be seen at once.
    """

    path: str
    old_path: str
    status: str
    added: int
    removed: int
    binary: bool
    html: Markup
    left_out: int
    is_open: bool


@dataclass(frozen=True)
class Patch:
    """What an agent left in one repository, as far as it is shown.

    Attributes:
        repo: All of it.
        files: The files that are named.
        more_files: How many more there are.
        left_out: Lines that are not shown.
        size: Characters of HTML that it takes.
    """

    repo: RepoResult
    files: tuple[FilePatch, ...]
    more_files: int
    left_out: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the patch is on the page, so that it can be taken from there."""
        return bool(self.repo.diff) and not self.left_out and not self.more_files


def patch_of(repo: RepoResult, limits: Limits, most: int) -> Patch:
    """A repository's patch for the page.

    Args:
        repo: The repository.
        limits: What a file and a line may take.
        most: What all files together may take, in characters of HTML.
    """
    files, more_files, left_out, size = list[FilePatch](), 0, 0, 0
    changes = {change.path: change for change in repo.changes}
    for text in _files(repo.diff):
        if len(files) == limits.files:
            more_files += 1
            left_out += text.count(b"\n")
            continue
        file = _file(text, changes, limits, min(limits.file, most - size))
        files.append(file)
        left_out += file.left_out
        size += len(file.html)
    return Patch(repo, tuple(files), more_files, left_out, size)


def _files(diff: bytes) -> Iterator[bytes]:
    """Its parts. Within a file no line begins as a file does: each has a sign before it, or is one of git's own."""
    if not diff:
        return
    begins = [found.start() for found in re.finditer(rb"^" + _BEGIN, diff, re.MULTILINE)]
    if not begins or begins[0] > 0:
        begins.insert(0, 0)
    for begin, end in zip(begins, [*begins[1:], len(diff)], strict=True):
        yield diff[begin:end]


@dataclass
class _Head:
    """What stands before a file's first change."""

    lines: list[str] = field(default_factory=list)
    old_path: str = ""
    path: str = ""
    status: str = "M"

    def read(self, line: str) -> None:
        """Take in a line of it."""
        self.lines.append(line)
        word, _, rest = line.partition(" ")
        match word, rest.partition(" "):
            case "diff", _:
                self.old_path = self.path = _same_path(rest.removeprefix("--git "))
            case "new", ("file", _, _):
                self.status = "A"
            case "deleted", ("file", _, _):
                self.status = "D"
            case (("rename" | "copy"), ("from", _, path)):
                self.status, self.old_path = ("R" if word == "rename" else "C"), _unquoted(path)
            case (("rename" | "copy"), ("to", _, path)):
                self.path = _unquoted(path)


def _file(text: bytes, changes: dict[str, FileChange], limits: Limits, most: int) -> FilePatch:
    begin = text.find(b"\n@@") + 1 or len(text)
    binary = _BINARY.search(text, 0, begin)
    head = _Head()
    for line in text[: binary.start() if binary else begin].split(b"\n"):
        head.read(_decoded(line))
    change = changes.get(head.path)
    html, left_out = _shown(text, limits.line, max(most, 0))
    if binary and (left_out or len(html) > limits.binary):
        html, left_out = Markup(), text.count(b"\n")  # a part of it is of no use to anybody
    return FilePatch(
        path=head.path,
        old_path=head.old_path if head.old_path != head.path else "",
        status=change.status if change else head.status,
        added=0 if binary else text.count(b"\n+", begin),
        removed=0 if binary else text.count(b"\n-", begin),
        binary=binary is not None,
        html=html,
        left_out=left_out,
        is_open=not binary and not left_out and text.count(b"\n") <= _OPEN_UP_TO,
    )


def _shown(text: bytes, longest: int, most: int) -> tuple[Markup, int]:
    """The lines that fit into `most` characters, long ones cut, and how many are not there or not whole."""
    kind_of, shown, size, cut = _Kind(), list[tuple[str, Markup]](), 0, 0
    for line in _lines(text, most):
        kind, html = kind_of(line), marked(line if len(line) <= longest else line[:longest] + "…\n")
        size += len(html) + (0 if shown and shown[-1][0] == kind else _ELEMENT)
        if size > most:
            break
        cut += len(line) > longest
        shown.append((kind, html))
    elements = [
        _element(kind, Markup().join(html for _, html in group))
        for kind, group in groupby(shown, key=lambda pair: pair[0])
    ]
    total = text.count(b"\n") + (not text.endswith(b"\n"))
    return Markup().join(elements), total - len(shown) + cut


def _lines(text: bytes, most: int) -> Iterator[str]:
    """Its lines with their ends, as long as they lie within its first `most` bytes."""
    begin = 0
    while begin < len(text):
        end = text.find(b"\n", begin, most) + 1 or (len(text) if len(text) <= most else 0)
        if not end:
            return
        yield _decoded(text[begin:end])
        begin = end


class _Kind:
    """Tells the kind of each line of a file, in their order: its head has other lines than its changes."""

    def __init__(self) -> None:
        self._in_head = True

    def __call__(self, line: str) -> str:
        """`a` added, `d` removed, `h` where it is, `m` git's own words, nothing for what stayed."""
        if line.startswith("@@"):
            self._in_head = False
        return "m" if self._in_head else _KINDS.get(line[:1], "")


def _element(kind: str, text: Markup) -> Markup:
    return Markup('<span class="{}">{}</span>').format(kind, text) if kind else text


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _same_path(pair: str) -> str:
    """The path in `a/PATH b/PATH`, where both are the same; which they are unless other lines say more."""
    if pair.startswith('"'):
        return _unquoted(pair[: (len(pair) - 1) // 2])[2:]
    return pair[2 : (len(pair) - 1) // 2]


def _unquoted(path: str) -> str:
    """A path as git writes it: in quotes, with escapes, when it holds odd characters."""
    if len(path) < 2 or not (path.startswith('"') and path.endswith('"')):  # noqa: PLR2004  # its quotes
        return path
    return b"".join(_unescaped(path[1:-1])).decode("utf-8", "surrogateescape")


def _unescaped(text: str) -> Iterator[bytes]:
    for found in re.finditer(r'\\([0-3][0-7]{2}|[abtnvfr"\\])|[^\\]+|\\', text):
        code = found[1]
        if code is None:
            yield found[0].encode("utf-8", "surrogateescape")
        else:
            yield bytes([_ESCAPES[code] if code in _ESCAPES else int(code, 8)])
