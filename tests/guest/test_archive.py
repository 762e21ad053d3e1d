from __future__ import annotations

import ast
import base64
import bz2
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from flaude._guest import archive
from flaude._guest.inside import loader
from flaude._guest.shrinking import shrink

SOURCES = archive.sources()
IN_IT = sorted(SOURCES.keys() - archive.NOT_IN_IT)
OLD = ("3.6", "3.7", "3.8")


def modules() -> dict[str, str]:
    """The sources that the archive holds."""
    packed = zipfile.ZipFile(io.BytesIO(archive.build())).read(loader.SOURCES)
    found: dict[str, str] = json.loads(bz2.decompress(packed))
    return found


def test_the_archive_is_deterministic() -> None:
    """The same sources give the same bytes, and all modules are in it."""
    assert archive.build() == archive.build()
    assert sorted(modules()) == IN_IT


def test_a_create_is_small() -> None:
    """The guest is at most 50 KB of a create's body; what waits for it where that is too much is tiny."""
    assert len(base64.b64encode(archive.build())) <= 50_000
    assert len(archive.bootstrap()) < 1200


@pytest.mark.parametrize("name", IN_IT)
def test_any_image_can_run_it(name: str) -> None:
    """The guest is Python 3.9 and imports the standard library and itself, nothing else."""
    tree = ast.parse(SOURCES[name], feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names
        assert not isinstance(node, ast.Match), "match came with Python 3.10"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_shrinking_changes_nothing_but_what_people_read(name: str) -> None:
    """Every statement of a shrunk module is what it was and on its line; docstrings and types of functions are gone."""
    source = SOURCES[name]

    def statements(text: str) -> list[tuple[int, str]]:
        """Every simple statement, with its line; what stands there for documentation is none."""
        found = [one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.stmt) and not hasattr(one, "body")]
        words = [one for one in found if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
        return sorted((one.lineno, ast.unparse(one)) for one in words if not isinstance(one, ast.Pass))

    small = shrink(source)
    assert statements(small) == statements(source)
    assert len(small.split("\n")) == len(source.split("\n"))
    assert (ast.get_docstring(ast.parse(small)) is None and len(small) < len(source)) or not source.strip()


@pytest.mark.parametrize("version", OLD)
def test_an_older_python_says_what_is_missing(tmp_path: Path, version: str) -> None:
    """A Python that cannot run the guest says so in words, and ends with an error."""
    ast.parse(SOURCES["loader"], feature_version=(3, int(version.partition(".")[2])))
    ast.parse(SOURCES["bootstrap"], feature_version=(3, int(version.partition(".")[2])))
    python = next(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"), shutil.which(f"python{version}"))
    guest = tmp_path / "guest.pyz"
    guest.write_bytes(archive.build())
    if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} here, and none is to be had from Debian")
    done = subprocess.run([python, "-I", "-S", str(guest)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"the image needs python3 3.9 or newer, this is {version}" in done.stderr


def test_a_traceback_shows_lines_as_they_are_written_here(tmp_path: Path) -> None:
    """An error inside the machine names the file and the line of our own sources."""
    guest = tmp_path / "opt/flaude/guest.pyz"
    guest.parent.mkdir(parents=True)
    guest.write_bytes(archive.build())
    blocked = tmp_path / "run"
    blocked.write_text("no folder")
    done = subprocess.run([sys.executable, "-I", "-S", str(guest)], capture_output=True, text=True, check=False)
    line = next(n for n, text in enumerate(SOURCES["layout"].splitlines(), 1) if "folder.mkdir(" in text)
    assert f'File "flaude_guest/layout.py", line {line}, in make' in done.stderr


class Bootstrap:
    """What keeps the guest's place, as a real process, and what is said to it."""

    def __init__(self, folder: Path, start_deadline_s: float = 60) -> None:
        self.path = folder / "opt/flaude/guest.pyz"
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(archive.bootstrap())
        self.env = {"PATH": os.environ["PATH"], "FLAUDE_START_DEADLINE_S": str(start_deadline_s)}
        self.process = subprocess.Popen([sys.executable, "-I", "-S", str(self.path)], env=self.env)

    def say(self, *words: str) -> dict[str, int]:
        """One exec."""
        argv = [sys.executable, "-I", "-S", str(self.path), *words]
        done = subprocess.run(argv, capture_output=True, check=True, env=self.env)
        answer: dict[str, int] = json.loads(done.stdout)
        return answer


def test_the_guest_comes_in_parts(tmp_path: Path) -> None:
    """Parts may be repeated, and what has not arrived is told; the guest then takes the waiting program's place."""
    bootstrap = Bootstrap(tmp_path)
    try:
        whole = base64.b64encode(archive.build()).decode()
        assert bootstrap.say("ctl", "start", "anything") == {"guest_bytes": 0}
        parts = (0, 0, 20_000, 10_000)  # one twice, one too early
        there = [bootstrap.say("part", str(offset), whole[offset : offset + 10_000]) for offset in parts]
        assert [answer["guest_bytes"] for answer in there] == [10_000, 10_000, 10_000, 20_000]
        assert bootstrap.say("join", "0" * 64) == {"guest_bytes": 0}, "damaged: all of it again"
        for offset in range(0, len(whole), 10_000):
            assert bootstrap.say("part", str(offset), whole[offset : offset + 10_000])["guest_bytes"] > offset
        for _ in range(2):
            assert bootstrap.say("join", hashlib.sha256(archive.build()).hexdigest()) == {"guest_bytes": -1}
        argv = [sys.executable, "-I", "-S", str(bootstrap.path), "ctl", "status", "eNqrrgUAAXUA+Q=="]
        until = time.monotonic() + 20
        while (done := subprocess.run(argv, capture_output=True, check=False, env=bootstrap.env)).returncode == 75:
            assert bootstrap.process.poll() is None and time.monotonic() < until
        assert json.loads(done.stdout)["state"] == "waiting"
    finally:
        bootstrap.process.terminate()
        bootstrap.process.wait()


def test_a_guest_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    """The waiting program ends by the start deadline, with code 0: others may delay the machine's removal."""
    assert Bootstrap(tmp_path, start_deadline_s=0.3).process.wait(20) == 0


def test_no_module_needs_flaude(tmp_path: Path) -> None:
    """Unpacked elsewhere, every module is imported by a Python that finds neither flaude nor any other package."""
    for name, text in modules().items():
        path = tmp_path / loader.PACKAGE / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from importlib import import_module\n"
        "for name in sys.argv[2:]: import_module(name)\n"
        "print('flaude' in sys.modules)"
    )
    names = [f"{loader.PACKAGE}.{name}" for name in modules()]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(tmp_path), *names], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
