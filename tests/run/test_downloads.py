"""How the files of a run arrive: in pieces, checked, and where they belong."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from tests.conftest import TOKEN, Machines

from flaude import (
    ConcurrentExecutor,
    ConfigError,
    FailureKind,
    GuestError,
    MachineConfig,
    Timeouts,
    Times,
    UnreachableError,
)
from flaude._guest.chunk_size import ChunkSize
from flaude._guest.client import SupervisorClient
from flaude._guest.inside.packing import unpack_request
from flaude._guest.inside.server import pack, pack_within
from flaude._guest.messages import GuestArtifact, GuestFile, GuestRepo, GuestResult
from flaude._model.placement import Shards
from flaude._providers.fly import FlyClient
from flaude._providers.fly.exec_limits import ExecLimits
from flaude._run.downloads import Downloader
from flaude._run.outcome import execution_result
from flaude._run.plan import AttemptPlan
from flaude._run.state import AttemptState, Step
from flaude.local import DropAfter, Fault, LocalFly, Truncate


class Guest:
    """A client of which every exec reaches a guest with these files; `damage` may change what it answers.

    Args:
        files: Content by name.
        damage: From the number of a fetch and its answer to another answer.
    """

    def __init__(
        self, files: dict[str, bytes], damage: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda _, one: one
    ) -> None:
        self.files = files
        self.fetches: list[tuple[int, int]] = []
        self.together: list[list[str]] = []
        self.at_once = 1000
        self.longest = 1 << 40
        self.packs_within = False
        self.fails_at: set[int] = set()
        self._asked = 0
        self.exec_limits = ExecLimits()
        self._damage = damage

    async def exec_machine(self, _app: str, _machine: str, command: list[str], **_options: Any) -> SimpleNamespace:
        """Answer a `fetch`."""
        assert command[-2] == "fetch"
        request = unpack_request(command[-1])
        if "names" in request:
            self.together.append(request["names"])
            packed = [pack(self.files[name]) for name in request["names"]]
            return SimpleNamespace(exit_code=0, stdout=json.dumps({"files": packed[: self.at_once]}), stderr="")
        offset, length = request["offset"], request["length"]
        self._asked += 1
        if length > self.longest or self._asked in self.fails_at:
            raise UnreachableError("bad gateway", status=502)
        self.fetches.append((offset, length))
        piece = self.files[request["name"]][offset : offset + length]
        text = pack_within(piece, length)[0] if self.packs_within else pack(piece)
        answer = self._damage(len(self.fetches), {"offset": offset, "data": text})
        return SimpleNamespace(exit_code=0, stdout=json.dumps(answer), stderr="")

    @property
    def link(self) -> SupervisorClient:
        """A link to it."""
        return SupervisorClient(cast("FlyClient", self), "my-app", "m")

    def result(self, **paths: str) -> GuestResult:
        """A result whose artifacts are these: path by name."""
        files = [
            GuestFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in self.files.items()
        ]
        artifacts = [GuestArtifact(path=path, file=name) for name, path in paths.items()]
        return GuestResult(job_id="j", exit_code=0, ended_by="exit", files=tuple(files), artifacts=tuple(artifacts))


async def fetched(guest: Guest, result: GuestResult, folder: Path) -> Downloader:
    """All that could be fetched."""
    fetching = Downloader(folder)
    while await fetching.go_on(guest.link, result):
        pass
    return fetching


def below(folder: Path) -> list[str]:
    """All files in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


BIG = os.urandom(3_000_000)


async def test_pieces_grow_while_they_arrive_whole() -> None:
    """Calls are rationed: each piece may be twice as large, up to 8 MB, until one does not arrive whole."""
    guest = Guest({"f": os.urandom(19_000_000)}, lambda number, one: {"data": ""} if number == 4 else one)
    file = guest.result(f="f").file("f")
    assert await guest.link.fetch(file) == guest.files["f"]
    mega = 1 << 20
    assert [length for _, length in guest.fetches] == [mega, 2 * mega, 4 * mega, 8 * mega, 4 * mega, 4 * mega, 4 * mega]


async def test_pieces_grow_that_do_not_compress() -> None:
    """Of a piece that does not shrink the guest sends as much as was asked for, packed; that is a whole one."""
    guest = Guest({"f": os.urandom(24_000_000)})
    guest.packs_within = True
    file = guest.result(f="f").file("f")
    assert await guest.link.fetch(file) == guest.files["f"]
    assert len(guest.fetches) == 7


async def test_a_large_result_does_not_begin_anew_at_every_blip() -> None:
    """What has arrived of a file is there when it is asked for again."""
    guest = Guest({"result.json": os.urandom(3_000_000)})
    guest.packs_within = True
    file, link = guest.result().file("result.json"), guest.link
    guest.fails_at = {2, 4}
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await link.fetch(file)
    assert await link.fetch(file) == guest.files["result.json"]
    offsets = [offset for offset, _ in guest.fetches]
    assert offsets == sorted(offsets) and offsets.count(0) == 1


async def test_pieces_that_are_too_long_for_the_way_shrink(tmp_path: Path) -> None:
    """A gateway that lets no long answer through costs a failure or two, not the file: nor does it a patch."""
    guest = Guest({"a": os.urandom(12_000_000), "p": os.urandom(9_000_000)})
    guest.longest = 3_000_000
    repo = GuestRepo(url="u", path="p", patch="p")
    result = guest.result(a="a").model_copy(update={"repos": (repo,)})
    fetching, link, failures = Downloader(tmp_path), guest.link, 0
    while True:
        try:
            if not await fetching.go_on(link, result):
                break
        except UnreachableError:
            failures += 1
    assert failures == 1
    assert fetching.downloaded.contents["p"] == guest.files["p"]
    assert fetching.downloaded.artifacts[0].file.read_bytes() == guest.files["a"]
    assert [offset for offset, _ in guest.fetches].count(0) == 2, "nothing began anew"


def test_a_size_that_failed_is_tried_again_after_a_while() -> None:
    """A blip is no limit: after enough whole pieces a longer one is tried, and twice as many after each failure."""
    size = ChunkSize()
    size.failed()
    assert size.bytes == 512 * 1024
    pieces = 0
    while size.bytes == 512 * 1024:
        size.arrived(size.bytes)
        pieces += 1
    assert pieces == 16
    size.failed()
    size.arrived(100)
    pieces = 0
    while size.bytes == 512 * 1024:
        size.arrived(size.bytes)
        pieces += 1
    assert pieces == 32
    for _ in range(20):
        size.failed()
    assert size.bytes == 4 * 1024


async def test_small_files_come_together(tmp_path: Path) -> None:
    """Calls are rationed: many small files take few of them, whatever fits into one answer."""
    guest = Guest({f"f{number}": b"x" * number for number in range(1, 120)})
    guest.at_once = 50
    paths = {name: f"{name}.txt" for name in guest.files}
    fetching = await fetched(guest, guest.result(**paths), tmp_path)
    assert {artifact.path: artifact.file.read_bytes() for artifact in fetching.downloaded.artifacts} == {
        f"{name}.txt": content for name, content in guest.files.items()
    }
    assert [len(names) for names in guest.together] == [119, 69, 19] and guest.fetches == []


async def test_a_file_that_is_never_whole_keeps_no_other_waiting(tmp_path: Path) -> None:
    """A file whose checksum is always wrong is given up after a few times, and named; the others arrive."""
    guest = Guest({"a": BIG, "b": b"2"})
    result = guest.result(a="a", b="b")
    wrong = tuple(file.model_copy(update={"sha256": "0" * 64}) if file.name == "a" else file for file in result.files)
    result = result.model_copy(update={"files": wrong})
    fetching, link, failures = Downloader(tmp_path), guest.link, 0
    while True:
        try:
            if not await fetching.go_on(link, result):
                break
        except GuestError:
            failures += 1
    assert failures == 4 and [lost.path for lost in fetching.downloaded.lost] == ["a"]
    assert [artifact.path for artifact in fetching.downloaded.artifacts] == ["b"]
    assert below(tmp_path) == ["artifacts/b"]


async def test_what_is_given_up_leaves_nothing_half_done(tmp_path: Path) -> None:
    """A file that was on its way when its run was ended is not left on the disk, and is told as not arrived."""
    guest = Guest({"a": BIG})
    result, fetching = guest.result(a="a"), Downloader(tmp_path)
    assert await fetching.go_on(guest.link, result)
    assert len(below(tmp_path)) == 1
    await fetching.close()
    assert below(tmp_path) == []
    state = AttemptState(
        step=Step.DONE, machine_id="m", result=result.model_copy(update={"result_line": {"result": "ok"}})
    )
    outcome = execution_result("t", state, Times(), fetching.downloaded)
    assert outcome.failure is not None and outcome.failure.kind is FailureKind.COLLECT and not outcome.success
    assert outcome.run_result is not None
    assert [(one.path, one.size, one.reason) for one in outcome.run_result.artifacts_omitted] == [
        ("a", len(BIG), "did not arrive")
    ]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda one: {**one, "data": one["data"][:-8]},
        lambda one: {**one, "data": "no base64!"},
        lambda one: {**one, "data": ""},
        lambda one: {**one, "offset": one["offset"] + 1},
    ],
    ids=["torn", "garbled", "empty", "another"],
)
async def test_a_damaged_piece_is_fetched_again(
    tmp_path: Path, damaged: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """A piece that is not what the guest sent is asked for again, and the file is what it was in the machine."""
    guest = Guest({"a": BIG}, lambda number, one: damaged(one) if number == 2 else one)
    fetching = await fetched(guest, guest.result(a="report.bin"), tmp_path)
    (artifact,) = fetching.downloaded.artifacts
    assert artifact.file == tmp_path / "artifacts/report.bin" and artifact.file.read_bytes() == BIG
    assert (artifact.size, artifact.sha256) == (len(BIG), hashlib.sha256(BIG).hexdigest())
    offsets = [offset for offset, _ in guest.fetches]
    assert offsets.count(offsets[1]) == 2 and offsets[0] == 0
    assert below(tmp_path) == ["artifacts/report.bin"]


async def test_a_file_with_a_wrong_checksum_begins_anew(tmp_path: Path) -> None:
    """A piece that is whole and yet another one shows in the checksum: nothing of the file is kept, it comes again."""
    wrong = pack(b"x" * (1 << 20))
    guest = Guest({"a": BIG}, lambda number, one: {**one, "data": wrong} if number == 1 else one)
    result, fetching = guest.result(a="report.bin"), Downloader(tmp_path)
    link = guest.link
    assert await fetching.go_on(link, result)
    with pytest.raises(GuestError, match="damaged"):
        await fetching.go_on(link, result)
    assert not fetching.downloaded.artifacts and "artifacts/report.bin" not in below(tmp_path)
    while await fetching.go_on(link, result):
        pass
    assert fetching.downloaded.artifacts[0].file.read_bytes() == BIG


async def test_a_blip_does_not_make_a_file_begin_anew(tmp_path: Path) -> None:
    """What has arrived stays: after a failed call the file goes on where it was."""
    guest = Guest({"a": BIG}, lambda number, one: {"error": "a blip"} if number in (2, 3, 4) else one)
    result, fetching, link = guest.result(a="a"), Downloader(tmp_path), guest.link
    assert await fetching.go_on(link, result)
    with pytest.raises(GuestError, match="a blip"):
        await fetching.go_on(link, result)
    assert len(guest.fetches) == 4, "a few times"
    while await fetching.go_on(link, result):
        pass
    assert [offset for offset, _ in guest.fetches].count(0) == 1
    assert fetching.downloaded.artifacts[0].file.read_bytes() == BIG


async def test_a_stop_does_not_cost_the_piece_that_has_arrived(tmp_path: Path) -> None:
    """A piece is written and counted, or neither: whoever is told to stop in between goes on behind it."""
    scope = anyio.CancelScope()

    def stop(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        if number == 1:
            scope.cancel()
        return answer

    guest = Guest({"a": BIG}, stop)
    result, fetching, link = guest.result(a="a"), Downloader(tmp_path), guest.link
    with scope:
        await fetching.go_on(link, result)
    while await fetching.go_on(link, result):
        pass
    assert [offset for offset, _ in guest.fetches] == [0, 1 << 20]
    assert fetching.downloaded.artifacts[0].file.read_bytes() == BIG


@pytest.mark.parametrize("path", ["../out", "@/out", "a/../../out", "", "a\0b", ".."])
async def test_no_file_lands_outside_of_its_folder(tmp_path: Path, path: str) -> None:
    """A guest that names a path which leads elsewhere gets nothing written, and the other files arrive."""
    path = path.replace("@", str(tmp_path))
    guest = Guest({"bad": b"1", "good": b"2"})
    fetching = await fetched(guest, guest.result(bad=path, good="sub/good.txt"), tmp_path / "mine")
    assert [lost.path for lost in fetching.downloaded.lost] == [path]
    assert [artifact.path for artifact in fetching.downloaded.artifacts] == ["sub/good.txt"]
    assert below(tmp_path) == ["mine/artifacts/sub/good.txt"]


async def test_no_file_takes_anothers_place(tmp_path: Path) -> None:
    """Two paths that are one here: the first stays what it is, and the second is lost with its reason."""
    guest = Guest({"one": b"1", "two": b"2"})
    downloaded = (await fetched(guest, guest.result(one="a/b", two="a/./b"), tmp_path)).downloaded
    assert [(artifact.path, artifact.file.read_bytes()) for artifact in downloaded.artifacts] == [("a/b", b"1")]
    assert [(lost.path, "the same name" in lost.reason) for lost in downloaded.lost] == [("a/./b", True)]


async def test_a_file_that_cannot_be_written_does_not_cost_the_others(tmp_path: Path) -> None:
    """A name that is too long for this disk is lost with its reason; the rest is there."""
    guest = Guest({"long": b"1", "good": b"2", "empty": b""})
    fetching = await fetched(guest, guest.result(long="x" * 300, good="good.txt", empty="empty.txt"), tmp_path)
    (lost,) = fetching.downloaded.lost
    assert lost.path == "x" * 300 and "could not be written" in lost.reason and lost.size == 1
    assert {artifact.path: artifact.file.read_bytes() for artifact in fetching.downloaded.artifacts} == {
        "good.txt": b"2",
        "empty.txt": b"",
    }


PROMPT = """Report.
::write reports/a.html <h1>a</h1>
::write reports/deep/b.html <h1>b</h1>
::write notes.txt not asked for
::shell head -c 3000000 /dev/urandom > data.bin; ln -s /etc/passwd reports/leak.html; sha256sum data.bin
::say done"""


def asking(repo: Path | None = None, **fields: Any) -> MachineConfig:
    """A run that is to bring files back."""
    repos = [f"file://{repo}"] if repo else []
    return MachineConfig(
        claude_code_oauth_token=TOKEN, prompt=PROMPT, collect=["reports/**/*.html", "*.bin"], repos=repos, **fields
    )


async def test_artifacts_and_transcript_come_back(machines: Machines, repo: Path, tmp_path: Path) -> None:
    """What `collect` names lies in the run's own folder, whole, through lost and torn answers; no link is followed."""
    faults = [Fault("exec_machine", Truncate(), chance=0.15), Fault("exec_machine", DropAfter(), chance=0.1)]
    async with machines(faults=faults, seed=4) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, output_dir=tmp_path / "out")
        result = await executor.run_one(asking(repo, transcript=True), tag="my report: 1/2")
    assert result.success, result
    run = result.run_result
    assert run is not None
    assert [artifact.path for artifact in run.artifacts] == ["data.bin", "reports/a.html", "reports/deep/b.html"]
    folder = run.artifacts[0].file.parent
    assert folder.parent.parent.parent == tmp_path / "out"
    assert (folder.parent.name, folder.name) == ("000-my-report-1-2", "artifacts")
    data = (folder / "data.bin").read_bytes()
    assert len(data) == 3_000_000 and (folder / "reports/a.html").read_text() == "<h1>a</h1>\n"
    assert [(omitted.path, "symbolic link" in omitted.reason) for omitted in run.artifacts_omitted] == [
        ("reports/leak.html", True)
    ]
    assert run.transcript is not None and run.transcript.file == folder.parent / "transcript.jsonl"
    lines = [json.loads(line) for line in run.transcript.file.read_text().splitlines()]
    assert hashlib.sha256(data).hexdigest() in json.dumps(lines), "what a tool answered is in the transcript"
    assert run.session_id in run.transcript.path
    assert {"notes.txt", "reports/a.html", "README.md"} <= set(run.workspace_files)
    assert not any(".git/" in path for path in run.workspace_files)


@pytest.mark.parametrize(
    ("tag", "attempt", "name"), [("a b", 1, "003-a-b"), ("", 1, "003-run"), ("!?", 1, "003-run"), ("a", 2, "003-a-a2")]
)
def test_every_attempt_has_a_folder_of_its_own(tmp_path: Path, tag: str, attempt: int, name: str) -> None:
    """People find a run by its place and its tag, and what an earlier attempt brought is not written over."""
    plan = AttemptPlan(
        shards=Shards("my-app"),
        config=MachineConfig(prompt="x"),
        batch="b",
        index=3,
        attempt=attempt,
        name="m",
        tag=tag,
        run_s=60,
        timeouts=Timeouts(),
        credentials={},
        queued=datetime.now(UTC),
        output_dir=tmp_path,
    )
    assert plan.folder == tmp_path / "b" / name


async def test_without_files_no_folder_is_made(local: LocalFly, tmp_path: Path) -> None:
    """Nobody's folder fills up with empty folders."""
    executor = ConcurrentExecutor("my-app", fly=local, output_dir=tmp_path / "out")
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say x", collect=["*.html"])
    result = await executor.run_one(config)
    assert result.success and not (tmp_path / "out").exists()


async def test_what_cannot_be_written_is_a_failure_of_collecting(local: LocalFly, repo: Path, tmp_path: Path) -> None:
    """Where the disk here takes no files the run is no success; its patch, its answer and its cost are there."""
    executor = ConcurrentExecutor("my-app", fly=local, output_dir=tmp_path / "out")
    (tmp_path / "out").write_text("a file where the folder should be")
    result = await executor.run_one(asking(repo))
    assert result.failure is not None and result.failure.kind is FailureKind.COLLECT
    assert "data.bin could not be written: Not a directory" in result.failure.message
    run = result.run_result
    assert run is not None and run.exit_code == 0 and run.text == "done" and run.cost_usd
    assert "reports/a.html" in [change.path for change in run.patches[0].changes]
    assert {lost.path for lost in run.artifacts_omitted} >= {"data.bin", "reports/a.html"}


@pytest.mark.parametrize("folder", [None, 3, "a\0b", "\ud800"])
def test_a_folder_that_is_none(folder: Any) -> None:
    """What cannot be a folder is said before anything is paid; so is a file in its place."""
    with pytest.raises(ConfigError, match="output_dir"):
        ConcurrentExecutor("my-app", output_dir=folder)
    with pytest.raises(ConfigError, match="is a file"):
        ConcurrentExecutor("my-app", output_dir=__file__)


async def test_files_over_the_limit_are_told(local: LocalFly, tmp_path: Path) -> None:
    """Limits cut loudly: what is over them is named, the run is no success, and what fits is there."""
    executor = ConcurrentExecutor("my-app", fly=local, output_dir=tmp_path / "out")
    result = await executor.run_one(asking(max_artifacts_mb=1))
    assert result.failure is not None and result.failure.kind is FailureKind.COLLECT
    assert "data.bin (2.9 MB)" in result.failure.message and "limit is 1 MB a run" in result.failure.message
    assert result.run_result is not None and len(result.run_result.artifacts) == 2
