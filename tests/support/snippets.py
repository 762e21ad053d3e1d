"""The fenced blocks of the README and the guides, and what a block's info string says of it.

    ```python                      run as it stands; functions are called, their parameters filled in by name
    ```yaml batch.yaml             a file of that name, beside the commands that follow on the page
    ```sh                          commands, each of which must succeed
    ```console                     commands after `$ `, each with its output; `…` stands for any text, or any lines
    ```text output                 what the block before prints
    ```sh notest: REASON           not run, for a reason that `test_what_is_not_run` knows

A file whose name begins with `broken` has mistakes on purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^( *)(```+)([^`\n]*)\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A fenced block.

    Attributes:
        page: The page's name.
        line: The line of its fence.
        language: The first word of its info string.
        rest: What follows it there.
        code: The block, without the indentation of its fence.
    """

    page: str
    line: int
    language: str
    rest: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def notest(self) -> str:
        """Why it is not run; empty when it is."""
        return self.rest.removeprefix("notest:").strip() if self.rest.startswith("notest:") else ""

    @property
    def file(self) -> str:
        """The name of the file that it is; empty when it is none."""
        return "" if self.notest or self.rest == "output" else self.rest


def snippets(page: Path) -> list[Snippet]:
    """All blocks of a page, those apart that the site is built with (`{toctree}` and the like)."""
    text, found = page.read_text(), []
    for match in _FENCE.finditer(text):
        indent, _, info, code = match.groups()
        language, _, rest = info.strip().partition(" ")
        if not language.startswith("{"):
            code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
            found.append(Snippet(page.name, text.count("\n", 0, match.start()) + 1, language, rest.strip(), code))
    return found


def all_snippets() -> list[Snippet]:
    """All blocks of all pages."""
    return [snippet for page in PAGES for snippet in snippets(page)]


@dataclass(frozen=True)
class Command:
    """One command of a `sh` or `console` block; `output` is None where none is shown."""

    snippet: Snippet
    line: str
    output: str | None


def commands(snippet: Snippet) -> list[Command]:
    """The commands of a block; one that ends with a backslash goes on in the next line."""
    code = snippet.code.replace("\\\n", " ")
    if snippet.language == "sh":
        lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
        return [Command(snippet, line, None) for line in lines]
    parts = re.split(r"^\$ (.*)\n?", code, flags=re.MULTILINE)
    assert not parts[0].strip(), f"{snippet}: a console block begins with `$ `"
    return [Command(snippet, line, output) for line, output in zip(parts[1::2], parts[2::2], strict=True)]


_SHAPES = {
    r"^…$\n?": r"(?s:.*?)",  # a line by itself: any lines
    r"…": r"[^\n]*?",
    r"\s+": r"\s+",
    r"─+": r"─+",
    r"\b[0-9a-f]{40}\b": r"[0-9a-f]{40}",
    r"\b(?=\d*[a-f])[0-9a-f]{10}(?:[0-9a-f]{4})?\b": r"[0-9a-f]{10,14}",  # a batch, a machine
    r"\b\d{4}-\d\d-\d\d\b": r"\d{4}-\d\d-\d\d",
    r"\b\d\d:\d\d:\d\d\b": r"\d\d:\d\d:\d\d",
    r"\b\d+:\d\d\b": r"\d+:\d\d",
    r"\b\d+\.\d\b": r"\d+\.\d",
    r"\b\d+(?= (?:s|ms|machine seconds)\b)": r"\d+",
    r"\$0\.0+\d+\b": r"\$0\.0\d+",  # what machines cost depends on how long they were there
}
"""What is never twice the same in an output, and what it matches instead."""

_ANY = re.compile("|".join(f"({shape})" for shape in _SHAPES), re.MULTILINE)


def pattern(expected: str) -> re.Pattern[str]:
    """What an output must match that is shown as `expected`."""
    shapes, text, found, end = list(_SHAPES.values()), expected.strip("\n"), "", 0
    for match in _ANY.finditer(text):
        assert match.lastindex is not None
        found += re.escape(text[end : match.start()]) + shapes[match.lastindex - 1]
        end = match.end()
    return re.compile(rf"\s*{found}{re.escape(text[end:])}\s*")
