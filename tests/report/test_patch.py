from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from tests.report.parsed import Page, taken_back

from flaude import FileChange, RepoResult
from flaude.report.limits import Limits
from flaude.report.patch import FilePatch, patch_of

OPTIONS = ("--binary", "--full-index", "--find-renames", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
MUCH = 1_000_000


def repo_of(diff: bytes, *changes: FileChange) -> RepoResult:
    """What came back of a repository."""
    return RepoResult(url="https://github.com/o/r", path="/workspace/r", head="a" * 40, diff=diff, changes=changes)


@pytest.fixture
def diff(repo: Path, git: Callable[..., str]) -> bytes:
    """A real patch in which files are changed in every way, with names and contents of all sorts."""
    (repo / "old name.txt").write_text("".join(f"line {number}\n" for number in range(20)))
    (repo / "gone.txt").write_text("-- a comment\n++ no addition\n")
    (repo / "mode.sh").write_text("#!/bin/sh\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=second")
    (repo / "old name.txt").rename(repo / 'n "é" \t.txt')
    (repo / "gone.txt").unlink()
    (repo / "mode.sh").chmod(0o755)
    (repo / "app.py").write_bytes(b"print('hello')\r\nprint('\x1b[31m')  # no end of line")
    (repo / "picture.bin").write_bytes(bytes(range(256)) * 3)
    (repo / "empty").write_bytes(b"")
    (repo / "latin.txt").write_bytes("gr\u00fc\u00df dich\n".encode("latin-1"))
    (repo / os.fsdecode(b"name-\xff")).write_text("diff --git a/no b/file\n@@ no place @@\n")
    (repo / "bidi.py").write_text("if access != 'user\u202e \u2066// admin\u2069 \u2066':\n")
    git(repo, "add", "--all")
    (repo / "patch").write_bytes(b"")
    git(repo, "diff", "--cached", *OPTIONS, f"--output={repo / 'patch'}")
    return (repo / "patch").read_bytes()


def shown(files: tuple[FilePatch, ...]) -> bytes:
    """The bytes that a reader can take from the page."""
    return b"".join(taken_back(file.html) for file in files)


def test_files_of_a_real_patch(diff: bytes) -> None:
    """Each file has its name, what happened to it and its lines counted, as git counts them."""
    patch = patch_of(repo_of(diff), Limits(), MUCH)
    found = {file.path: (file.status, file.added, file.removed, file.binary) for file in patch.files}
    assert found == {
        "app.py": ("M", 2, 1, False),
        "bidi.py": ("A", 1, 0, False),
        "empty": ("A", 0, 0, False),
        "gone.txt": ("D", 0, 2, False),
        "latin.txt": ("A", 1, 0, False),
        "mode.sh": ("M", 0, 0, False),
        'n "é" \t.txt': ("R", 0, 0, False),
        os.fsdecode(b"name-\xff"): ("A", 2, 0, False),
        "picture.bin": ("A", 0, 0, True),
    }
    assert [file.old_path for file in patch.files if file.old_path] == ["old name.txt"]


def test_the_patch_can_be_taken_from_the_page(diff: bytes) -> None:
    """What is shown is the very patch, byte by byte, whatever is in it."""
    patch = patch_of(repo_of(diff), Limits(), MUCH)
    assert patch.is_whole and shown(patch.files) == diff


def test_lines_are_told_by_more_than_colour(diff: bytes) -> None:
    """Lines of one kind that follow each other are one element, and keep their signs."""
    patch = patch_of(repo_of(diff), Limits(), MUCH)
    app = next(file for file in patch.files if file.path == "app.py")
    kinds = [(span.attributes["class"], span.text.split("\n")[0]) for span in Page(app.html).all("span")]
    assert kinds == [
        ("m", "diff --git a/app.py b/app.py"),
        ("h", "@@ -1 +1,2 @@"),
        ("d", "-print('hello')"),
        ("a", "+print('hello')⟨CR⟩"),
        ("m", "\\ No newline at end of file"),
    ]
    odd = next(file for file in patch.files if file.status == "D")
    assert [span.text for span in Page(odd.html).all("span", class_="d")] == ["--- a comment\n-++ no addition\n"]


@given(st.integers(min_value=0, max_value=4000), st.integers(min_value=1, max_value=60))
def test_what_does_not_fit_is_counted(most: int, longest: int) -> None:
    """A patch keeps to its limit, and lines that are shown, cut or left out are all lines."""
    lines = [b"+" + b"x" * (number * 7 % 50) for number in range(40)]
    files = b"".join(
        b"diff --git a/%d b/%d\n--- a/%d\n+++ b/%d\n@@ -0,0 +1,40 @@\n" % ((number,) * 4) + b"\n".join(lines) + b"\n"
        for number in range(3)
    )
    patch = patch_of(repo_of(files), Limits(line=longest), most)
    assert sum(len(file.html) for file in patch.files) <= most and patch.left_out == sum(
        file.left_out for file in patch.files
    )
    there = [line for file in patch.files for line in taken_back(file.html).split(b"\n")[:-1]]
    whole = [line for line in there if not line.endswith("…".encode())]
    assert len(whole) + patch.left_out == files.count(b"\n")
    assert all(file.added == 40 for file in patch.files), "counted all the same"
    assert patch.is_whole == (shown(patch.files) == files)


def test_a_patch_of_very_many_files() -> None:
    """So many files are named, the others counted with their lines."""
    diff = b"".join(b"diff --git a/%d b/%d\nnew file mode 100644\nindex 0..1\n" % (n, n) for n in range(50))
    patch = patch_of(repo_of(diff), Limits(files=10), MUCH)
    assert len(patch.files) == 10 and patch.more_files == 40 and patch.left_out == 120 and not patch.is_whole


def test_a_large_binary_file_is_named_alone(diff: bytes) -> None:
    """A part of a binary file is of no use: it is there whole, or not at all."""
    patch = patch_of(repo_of(diff), Limits(binary=100), MUCH)
    picture = next(file for file in patch.files if file.binary)
    assert picture.html == Markup() and picture.left_out > 10 and not patch.is_whole


@given(st.binary(max_size=200))
def test_anything_may_be_called_a_patch(diff: bytes) -> None:
    """What is no patch is shown as it is, and lost nowhere."""
    assert shown(patch_of(repo_of(diff), Limits(), MUCH).files) == diff


def test_the_results_word_counts() -> None:
    """How git has counted a file is taken from the result, where both name it."""
    diff = b"diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+to\n"
    (file,) = patch_of(repo_of(diff, FileChange(path="link", status="T", added=1, removed=1)), Limits(), MUCH).files
    assert file.status == "T" and file.added == 1
