"""Runs on a disk that the agent fills: a small one, which a bubblewrap box has in the place of the guest's folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.guest.conftest import PYTHON, Guest

from flaude._guest.messages import GuestResult
from flaude.local.processes import children

Script = Callable[[str], list[str]]
MB = 1 << 20
LIMITS = {"reserve_bytes": 4 * MB}

_BOX = ("bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent")
_CTL = """
import sys
from flaude._guest.inside.ctl import ctl
sys.exit(ctl(sys.argv[2:], sys.argv[1]))
"""

FILL = """
def fill(path, piece=1 << 20):
    with open(path, 'wb', buffering=0) as file:
        while piece:
            try:
                file.write(b'x' * piece)
            except OSError:
                piece //= 2
"""


class SmallDisk(Guest):
    """A guest whose folder is a disk of its own, which only the processes in its box have."""

    def __init__(self, root: Path) -> None:
        disk = ["--size", str(64 * MB), "--tmpfs", str(root), "--dir", str(root / "tmp")]
        archive = root / "opt/flaude/guest.pyz"
        prefix = [*_BOX, *disk, "--ro-bind", str(archive), str(archive), "--"]
        super().__init__(root, prefix, env={"TMPDIR": str(root / "tmp")})

    def inside(self, path: str) -> Path:
        """A path on the disk, as it can be reached from outside."""
        inner = children(self.process.pid) or [self.process.pid]
        return Path(f"/proc/{inner[0]}/root{self.root}", path)

    def ctl_command(self, *words: str) -> list[str]:
        """See `Guest`; the way to its socket leads through its box."""
        return [PYTHON, "-c", _CTL, str(self.inside("run/flaude")), *words]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    """One guest on a disk of 64 MB."""
    there = shutil.which("bwrap") is not None
    needs("bubblewrap", "run scripts/install-test-tools", there=there)
    probe = subprocess.run(
        [*_BOX, "--size", "4096", "--tmpfs", str(tmp_path), "true"], capture_output=True, check=False
    )
    needs("a small disk", probe.stderr.decode(), there=probe.returncode == 0)
    guest = SmallDisk(tmp_path / "disk")
    yield guest
    guest.end()


def finish(guest: Guest) -> tuple[GuestResult, dict[str, Any], list[dict[str, Any]]]:
    """The result as the controller reads it and as it is, and all records."""
    result, records = guest.finish()
    return GuestResult.model_validate(result), result, records


@pytest.mark.parametrize("how", ["one file", "many files"])
def test_the_work_comes_back_from_a_full_disk(small: SmallDisk, script: Script, repo: Path, how: str) -> None:
    """An agent that fills the disk outside of its repository has its patch, its artifacts and its result."""
    body = f"""
        open("small.txt", "w").write("paid work\\n")
        if {how == "many files"}:
            os.mkdir("../../many")
            try:
                for number in range(100_000):
                    open(f"../../many/{{number}}", "wb", buffering=0).write(b"x" * 4096)
            except OSError:
                pass
        fill("../../fill")
        try:
            open("more.txt", "wb", buffering=0).write(b"x" * 5000)
        except OSError as error:
            result(error.strerror)
    """
    small.start(
        script(FILL + "if True:" + body),
        repos=[{"url": f"file://{repo}", "target_dir": "sample"}],
        collect={"artifacts": ["small.*"]},
        limits=LIMITS,
    )
    result, _, records = finish(small)
    assert result.result_line is not None and result.result_line["result"] == "No space left on device"
    (found,) = result.repos
    assert found.patch_error == "" and found.patch is not None
    assert b"+paid work" in small.fetch(found.patch)
    assert [artifact.path for artifact in result.artifacts] == ["small.txt"]
    assert small.fetch(result.artifacts[0].file) == b"paid work\n"
    assert [record["state"] for record in records if record["type"] == "state"][-2:] == ["collecting", "done"]


def test_lines_that_found_no_room_are_told(small: SmallDisk, script: Script) -> None:
    """Output that a full disk has cost is counted and said, the result line counts, and what comes after has room."""
    body = """
        print("before", flush=True)
        fill("fill")
        for number in range(5):
            print(str(number) * 100_000, flush=True)
        result("said")
    """
    small.start(script(FILL + "if True:" + body), limits=LIMITS)
    result, raw, records = finish(small)
    assert result.result_line is not None and result.result_line["result"] == "said"
    lines = [record["line"] for record in records if record["type"] == "stdout"]
    assert lines[0] == "before"
    assert raw["lines"]["dropped"] == 7 - len(lines) > 0 and raw["lines"]["stdout"] == len(lines)
    told = [record["message"] for record in records if record["type"] == "log"]
    assert told == [f"the disk was full: {7 - len(lines)} lines of the agent's output are missing"]


def test_the_reserve_is_there_until_the_agent_has_ended(small: SmallDisk, script: Script) -> None:
    """It is taken before the agent starts, and its room is given back when the work is collected."""
    small.start(script("print('up', flush=True); sys.stdin.read(); time.sleep(300)"), limits=LIMITS)
    small.pull_until(lambda records: any(record.get("line") == "up" for record in records))
    reserve = small.inside("var/lib/flaude/reserve")
    status = reserve.stat()
    assert status.st_blocks * 512 == 4 * MB and status.st_mode & 0o777 == 0o600
    small.call("cancel", reason="enough", grace_s=0.2)
    finish(small)
    assert not reserve.exists()


@pytest.mark.parametrize("size", [0, 7 * MB])
def test_no_reserve(small: SmallDisk, script: Script, size: int) -> None:
    """None is taken when none is wanted, or when it would be more than a tenth of what is free."""
    small.start(script("print('up', flush=True); time.sleep(300)"), limits={"reserve_bytes": size})
    small.pull_until(lambda records: any(record.get("line") == "up" for record in records))
    assert not small.inside("var/lib/flaude/reserve").exists()
