"""Artifacts, the transcript, and the list of files, of real runs."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.guest.conftest import SECRET, Guest

from flaude._guest.inside.cooperative import Pace
from flaude._guest.inside.files.artifacts import collect_artifacts
from flaude._guest.inside.files.transcript import NoTranscript, keep_transcript
from flaude._guest.inside.files.walk import open_folder
from flaude._guest.inside.outgoing_files import OutgoingFiles
from flaude._guest.inside.redact import Redactor
from flaude._guest.messages import GuestResult, unpack

Script = Callable[[str], list[str]]

PRELUDE = """
def write(path, content='x'):
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True) if folder else None
    open(path, 'wb').write(content.encode() if isinstance(content, str) else content)
def transcribe(session, *lines, folder=None, home=os.environ['HOME'] + '/.claude'):
    import re
    folder = folder or re.sub('[^A-Za-z0-9]', '-', os.getcwd())
    path = f'{home}/projects/{folder}/{session}.jsonl'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, 'w').write(''.join(json.dumps(line) + chr(10) for line in lines))
    return path
def init(session):
    print(json.dumps({'type': 'system', 'subtype': 'init', 'session_id': session}), flush=True)
"""


def collected(guest: Guest, result: dict[str, Any]) -> dict[str, bytes]:
    """The artifacts as they arrive, by path; the result is one that the controller reads."""
    read = GuestResult.model_validate(json.loads(json.dumps(result)))
    assert len({artifact.path for artifact in read.artifacts}) == len(read.artifacts)
    return {artifact.path: guest.fetch(read.file(artifact.file).name) for artifact in read.artifacts}


def omitted(result: dict[str, Any]) -> dict[str, str]:
    """Why files did not come, by path."""
    return {item["path"]: item["reason"] for item in result["artifacts_omitted"]}


@pytest.fixture
def run(guest: Guest, script: Script) -> Callable[..., dict[str, Any]]:
    """Runs an agent that writes files, and gives its result."""

    def start(body: str, *artifacts: str, **job: Any) -> dict[str, Any]:
        collect = {"artifacts": list(artifacts), **job.pop("collect", {})}
        guest.start(
            script(PRELUDE + "if True:\n" + textwrap.indent(textwrap.dedent(body), "    ")), collect=collect, **job
        )
        return guest.finish()[0]

    return start


Run = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["reports/*.html"], ["reports/a.html", "reports/b.html"]),
        (["*.html"], ["top.html"]),
        (["**/*.html"], ["deep/er/c.html", "reports/a.html", "reports/b.html", "top.html"]),
        (["deep/**/c.html"], ["deep/er/c.html"]),
        (["reports"], ["reports/a.html", "reports/b.html", "reports/sub/.hidden"]),
        (["reports/", "./reports/a.html"], ["reports/a.html", "reports/b.html", "reports/sub/.hidden"]),
        (["reports/**"], ["reports/a.html", "reports/b.html", "reports/sub/.hidden"]),
        (["**/er/*", "deep/*"], ["deep/er/c.html"]),
        (["reports/[ab].htm?", "**/b.html"], ["reports/a.html", "reports/b.html"]),
        (["*/*/.hid*"], ["reports/sub/.hidden"]),
        (["**/config", "*/config", ".gi?/config"], []),
        ([".git/config"], [".git/config"]),
        (["none/*.html", "**/nothing", "top.html/x"], []),
    ],
)
def test_globs(guest: Guest, run: Run, wanted: list[str], expected: list[str]) -> None:
    """Parts are patterns, `**` is any number of folders, a folder is all that is in it, and `.git` must be named."""
    body = """
        for path in ('reports/a.html', 'reports/b.html', 'reports/sub/.hidden', 'deep/er/c.html', 'top.html',
                     '.git/config', 'deep/.git/x/c.html'):
            write(path, path)
        result()
    """
    result = run(body, *wanted)
    found = collected(guest, result)
    assert list(found) == expected
    assert all(content == path.encode() for path, content in found.items())
    assert result["artifacts_error"] == "" and result["artifacts_omitted"] == []


@pytest.mark.parametrize("glob", ["/etc/passwd", "../x", "a/../../x"])
def test_globs_that_lead_outside_are_refused(guest: Guest, script: Script, glob: str) -> None:
    """A glob outside of the working folder is an error of the job's."""
    assert "out of the working folder" in guest.start(script("result()"), collect={"artifacts": [glob]})["error"]


def test_no_link_is_followed(guest: Guest, run: Run, tmp_path: Path) -> None:
    """Neither a link to a file nor one on the way leads anywhere; what was matched is named with the reason."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("outside")
    body = f"""
        write('out/real.txt')
        os.symlink({str(outside)!r}, 'linked')
        os.symlink({str(outside)!r}, 'out/folder')
        os.symlink({str(outside / "secret.txt")!r}, 'out/secret.txt')
        os.symlink('real.txt', 'out/latest.txt')
        os.symlink('.', 'out/loop')
        result()
    """
    result = run(body, "out", "linked/*.txt", "**/secret.txt", "out/folder/secret.txt")
    assert list(collected(guest, result)) == ["out/real.txt"]
    reasons = omitted(result)
    assert sorted(reasons) == ["out/folder", "out/latest.txt", "out/loop", "out/secret.txt"]
    assert all("symbolic link" in reason for reason in reasons.values())
    assert result["artifacts_error"] == ""


def test_a_working_folder_that_became_a_link(guest: Guest, run: Run, repo: Path, tmp_path: Path) -> None:
    """An agent that puts a link in the place of its working folder gets nothing from outside."""
    (tmp_path / "secret.txt").write_text("outside")
    body = f"""
        here = os.getcwd()
        os.rename(here, here + "-old")
        os.symlink({str(tmp_path)!r}, here)
        result()
    """
    result = run(body, "*.txt", repos=[{"url": f"file://{repo}", "target_dir": "sample"}])
    assert result["artifacts_error"].startswith("the working folder cannot be read")
    assert "artifacts" not in result and "workspace_files" not in result


def test_what_is_no_plain_file_is_not_read(guest: Guest, run: Run) -> None:
    """Pipes, sockets and devices are named and neither read nor waited for."""
    body = """
        import socket
        os.mkfifo('a.fifo'); write('b.txt')
        made = socket.socket(socket.AF_UNIX); made.bind('c.sock')
        result()
    """
    result = run(body, "*")
    assert list(collected(guest, result)) == ["b.txt"]
    assert omitted(result) == dict.fromkeys(["a.fifo", "c.sock"], "not a plain file")
    assert result["workspace_files"] == ["a.fifo", "b.txt", "c.sock"]


NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root could read it")


def collecting(folder: Path, outbox: OutgoingFiles) -> dict[str, Any]:
    """All files of a folder, for an agent that is another user than root."""

    async def collect(top: int) -> dict[str, Any]:
        return await collect_artifacts(top, ["**"], owner=NOBODY, max_bytes=0, outbox=outbox, clean=str, seconds=None)

    top = open_folder(folder)
    try:
        return asyncio.run(collect(top))
    finally:
        os.close(top)


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    """A working folder of another user's, with a large file, and beside it a file of root's with the same name."""
    for name, owner in (("work/sub", NOBODY), ("root", 0)):
        file = tmp_path / name / "file"
        file.parent.mkdir(parents=True)
        file.write_bytes(name[:1].encode() * 200_000)
        os.chown(file, owner, owner)
    return tmp_path / "work"


@as_root
def test_files_of_other_users_do_not_come(agents: Path) -> None:
    """Linked in, mounted, or left by a program of root's: only the agent's own files are its artifacts."""
    os.link(agents.parent / "root/file", agents / "linked")
    (agents / "foreign").touch()
    os.link(agents / "sub/file", agents / "own")
    outbox = OutgoingFiles(agents.parent)
    result = collecting(agents, outbox)
    assert [artifact["path"] for artifact in result["artifacts"]] == ["own", "sub/file"]
    assert omitted(result) == dict.fromkeys(["foreign", "linked"], "a file of another user")
    assert "2 files are not among the artifacts (a file of another user)" in result["artifacts_error"]


def swap(agents: Path, link: bool) -> None:
    """Put the folder of root's in the place of the agent's."""
    (agents / "sub").rename(agents / "moved")
    if link:
        (agents / "sub").symlink_to("../root")
    else:
        (agents.parent / "root").rename(agents / "sub")


@as_root
@pytest.mark.parametrize("link", [True, False])
def test_a_folder_that_is_swapped_after_the_search(agents: Path, link: bool) -> None:
    """A file that is another one when it is read, or when it is fetched, does not come."""

    class Late(OutgoingFiles):
        async def announce_large(self, *arguments: Any) -> dict[str, Any]:
            swap(agents, link)
            return await super().announce_large(*arguments)

    result = collecting(agents, Late(agents.parent))
    assert result["artifacts"] == [] and list(omitted(result)) == ["sub/file"]


@as_root
@pytest.mark.parametrize("link", [True, False])
def test_a_folder_that_is_swapped_before_it_is_fetched(agents: Path, link: bool) -> None:
    """The same for each piece, one by one and together."""
    outbox = OutgoingFiles(agents.parent)
    name = collecting(agents, outbox)["artifacts"][0]["file"]
    assert unpack(outbox.fetch({"name": name, "length": 16})["data"]).startswith(b"www")
    swap(agents, link)
    for request in ({"name": name}, {"names": [name]}):
        with pytest.raises(OSError, match=r"another file|Not a directory|symbolic"):
            outbox.fetch(request)


ODD = [
    b"\xff\xfe",
    b"%FF%FE",
    b"%ff",
    b"a\nb",
    b"tab\there",
    b"\x1b[2J",
    b"100%",
    b"\xc3\xa9",
    b"\xe2\x80\xae.txt",
    b" ",
]


def test_odd_names_are_readable_and_stay_apart(guest: Guest, run: Run) -> None:
    """UTF-8 stays as it is, what cannot be read is escaped, and no two files get the same path."""
    body = f"""
        for name in {ODD!r}:
            open(name, "wb").write(name)
        result()
    """
    result = run(body, "*")
    found = collected(guest, result)
    assert {content: path for path, content in found.items()} == {
        b"\xff\xfe": "%FF%FE",
        b"%FF%FE": "%25FF%25FE",
        b"%ff": "%25ff",
        b"a\nb": "a%0Ab",
        b"tab\there": "tab%09here",
        b"\x1b[2J": "%1B[2J",
        b"100%": "100%",
        b"\xc3\xa9": "é",
        b"\xe2\x80\xae.txt": "%E2%80%AE.txt",
        b" ": " ",
    }
    assert result["workspace_files"] == sorted(found)


def test_secrets_in_names(guest: Guest, run: Run) -> None:
    """Names go through the filter as all that is told, and stay apart."""
    body = """
        for folder in ('a', 'b'):
            write(folder + '/' + os.environ['CLAUDE_CODE_OAUTH_TOKEN'] + folder)
        write(os.environ['OTHER'] + '.x'); write(os.environ['CLAUDE_CODE_OAUTH_TOKEN'] + '.x', 'big')
        result()
    """
    secrets = {"CLAUDE_CODE_OAUTH_TOKEN": SECRET, "OTHER": "other-secret-4711"}
    result = run(body, "**", limits={"max_artifact_bytes": 5}, secrets=secrets)
    told = json.dumps({**result, "files": []})
    assert SECRET not in told and "other-secret" not in told
    assert sorted(collected(guest, result)) == ["[redacted].x", "a/[redacted]a", "b/[redacted]b"]
    assert omitted(result) == {"[redacted].x": "over the limit of 5 bytes a run"}


def test_two_names_that_are_the_same_without_their_secrets(guest: Guest, run: Run) -> None:
    """They get a number."""
    secrets = {"ONE": "first-secret", "TWO": "second-secret"}
    result = run("write(os.environ['ONE']); write(os.environ['TWO']); result()", "*", secrets=secrets)
    assert sorted(collected(guest, result)) == ["[redacted]", "[redacted]~2"]


def test_the_limit_takes_the_smallest_files(guest: Guest, run: Run) -> None:
    """Of more than may come the smallest come; the others are listed with their size, and a sentence says so."""
    body = """
        write('a.bin', 'a' * 70_000); write('b.bin', 'b' * 10); write('c.bin', 'c' * 200_000)
        write('d.bin', 'd' * 29_000); write('dump.bin'); os.truncate('dump.bin', 2_254_857_831)
        result()
    """
    result = run(body, "*", limits={"max_artifact_bytes": 100_000})
    assert {path: len(content) for path, content in collected(guest, result).items()} == {
        "a.bin": 70_000,
        "b.bin": 10,
        "d.bin": 29_000,
    }
    assert result["artifacts_omitted"] == [
        {"path": "dump.bin", "size": 2_254_857_831, "reason": "over the limit of 97.7 KB a run"},
        {"path": "c.bin", "size": 200_000, "reason": "over the limit of 97.7 KB a run"},
    ]
    assert result["artifacts_error"] == (
        "2 files are not among the artifacts, whose limit is 97.7 KB a run: dump.bin (2.1 GB), c.bin (195.3 KB)"
    )


def test_ten_thousand_files_may_come(guest: Guest, run: Run) -> None:
    """Of more files the smallest come, and of 300 MB nothing is copied; the list of files has so many, and a count."""
    body = """
        os.mkdir('many')
        for number in range(10_020):
            open(f'many/{number:05}', 'w').write('x' * (number % 7))
        write('big', 'y' * 1000)
        result()
    """
    result = run(body, "**")
    assert len(result["artifacts"]) == 10_000 and len(result["artifacts_omitted"]) == 21
    assert result["artifacts_error"].startswith(
        "21 files are not among the artifacts, of which 10000 may come a run: big (1000 bytes), "
    )
    assert result["artifacts_error"].endswith(" and 18 more")
    assert len(result["workspace_files"]) == 10_000 and result["workspace_files_left_out"] == 21
    sizes = {file["name"]: file["size"] for file in result["files"]}
    assert sum(sizes[artifact["file"]] for artifact in result["artifacts"]) < 10_000 * 6


def test_the_controller_is_answered_while_files_are_looked_for(guest: Guest, script: Script) -> None:
    """A large tree and a large file keep neither the clocks nor a pull from their turn."""
    body = """
        for folder in range(60):
            os.mkdir(f'd{folder}')
            for number in range(200):
                os.close(os.open(f'd{folder}/{number}', os.O_CREAT))
        write('large'); os.truncate('large', 1 << 29)
        result()
    """
    guest.start(
        script(PRELUDE + "if True:\n" + textwrap.indent(textwrap.dedent(body), "    ")),
        collect={"artifacts": ["large", "**/[0-9]?7"]},
        limits={"max_artifact_bytes": 2 << 30},
    )
    guest.pull_until(lambda records: any(record.get("state") == "collecting" for record in records))
    answered = 0
    while guest.call("status")["state"] == "collecting":
        answered += 1
    assert answered >= 2
    result, _ = guest.finish()
    assert len(result["artifacts"]) == 1 + 60 * 10
    assert result["workspace_files_left_out"] == 60 * 200 + 1 - 10_000


def test_it_ends_in_time(guest: Guest, run: Run) -> None:
    """When there is no time for all of it, what there was time for comes, and what is missing is said."""
    body = """
        for number in range(99):
            write(f'{number:02}.bin'); os.truncate(f'{number:02}.bin', (1 + number) << 25)
        result()
    """
    result = run(body, "*", limits={"max_artifact_bytes": 0, "collect_s": 1})
    assert result["times"]["done"] - result["times"]["collecting"] < 12
    assert 0 < len(result["artifacts"]) < 99
    assert "(there was no time for it)" in result["artifacts_error"]


def test_a_run_without_repositories_lists_its_files(guest: Guest, run: Run) -> None:
    """The list has files and links, sorted, without `.git`; neither folders nor what links lead to."""
    body = """
        write('b/c'); write('a-b'); write('a/x'); write('.git/config'); write('b/.git/x'); os.mkdir('empty')
        os.symlink('b', 'link'); write('tok-' + os.environ['CLAUDE_CODE_OAUTH_TOKEN'])
        result()
    """
    result = run(body)
    assert result["workspace_files"] == ["a-b", "a/x", "b/c", "link", "tok-[redacted]"]
    assert result["workspace_files_left_out"] == 0


def test_deep_folders_have_an_end(guest: Guest, run: Run) -> None:
    """Folders inside of each other without end are looked into so far, and that is said."""
    body = """
        for number in range(600):
            os.mkdir('d'); os.chdir('d')
            if number in (5, 500): write('f')
        result()
    """
    result = run(body, "**/f")
    assert list(collected(guest, result)) == ["/".join("d" * 6) + "/f"]
    assert "more than 100 folders deep" in result["artifacts_error"]


# --- the transcript ---


def transcript(guest: Guest, result: dict[str, Any]) -> tuple[str, list[Any]]:
    """Its path and its lines."""
    told = GuestResult.model_validate(result).transcript
    assert told is not None
    return told.path, [json.loads(line) for line in guest.fetch(told.file).splitlines()]


LINKED_FOLDER = """
    transcribe('s-1', 1)
    os.chdir(os.environ['HOME'])
    os.rename('.claude', 'moved')
    os.symlink('moved', '.claude')
    result(session_id='s-1')
"""
WANTED = {"collect": {"transcript": True}}


def test_the_transcript_comes_without_secrets(guest: Guest, run: Run) -> None:
    """The session's record comes back line by line, and every secret in it is replaced."""
    body = """
        init('s-1')
        token = os.environ['CLAUDE_CODE_OAUTH_TOKEN']
        transcribe('s-1', {'a': 1}, {'output': 'token=' + token + chr(10) + 'é'}, {'long': 'z' * 3_000_000 + token})
        transcribe('s-2', {'another': 'session'})
        result(session_id='s-1')
    """
    result = run(body, **WANTED)
    path, lines = transcript(guest, result)
    assert path == "s-1.jsonl"
    assert lines == [{"a": 1}, {"output": "token=[redacted]\né"}, {"long": "z" * 3_000_000 + "[redacted]"}]
    assert result["artifacts_error"] == ""


def test_a_stopped_agent_has_a_transcript(guest: Guest, script: Script) -> None:
    """An agent that was stopped has no result line; its first line names the session."""
    work = "init('s-1'); transcribe('s-1', 1); print('written', flush=True); time.sleep(300)"
    guest.start(script(PRELUDE + work), **WANTED)
    guest.pull_until(lambda records: any(record.get("line") == "written" for record in records))
    guest.call("cancel", reason="enough", grace_s=1)
    result, _ = guest.finish()
    assert result["ended_by"] == "cancelled"
    assert transcript(guest, result) == ("s-1.jsonl", [1])


def test_a_transcript_in_another_folder(guest: Guest, run: Run, tmp_path: Path) -> None:
    """It is looked for below CLAUDE_CONFIG_DIR, and by its name in folders that Claude Code has named otherwise."""
    config = tmp_path / "config"
    result = run(
        f"transcribe('s-1', 2, folder='elsewhere', home={str(config)!r}); result(session_id='s-1')",
        **WANTED,
        env={"CLAUDE_CONFIG_DIR": str(config)},
    )
    assert transcript(guest, result) == ("s-1.jsonl", [2])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("result()", "did not begin a session"),
        ("result(session_id='../../../etc/x')", "did not begin a session"),
        ("result(session_id='s-1')", "there is no transcript"),
        ("transcribe('s-2', 1); result(session_id='s-1')", "there is no transcript of the session"),
        ("p = transcribe('s-1', 1); os.rename(p, 'x'); os.symlink(os.path.abspath('x'), p); result(session_id='s-1')",
         "there is no transcript of the session"),
        ("p = transcribe('s-1', 1); os.unlink(p); os.mkfifo(p); result(session_id='s-1')",
         "there is no transcript of the session"),
        (LINKED_FOLDER, "there is no transcript: "),
        ("transcribe('s-1', 'x' * 70000); result(session_id='s-1')", "68.4 KB"),
    ],
    ids=["no session", "no name", "no folder", "another", "a link", "a pipe", "a linked folder", "too large"],
)  # fmt: skip
def test_no_transcript_is_told(guest: Guest, run: Run, body: str, error: str) -> None:
    """A transcript that is not there, is no file or is too large is none, and the reason is told."""
    result = run(body, **WANTED, limits={"max_artifact_bytes": 60_000})
    assert result.get("transcript") is None
    assert error in result["artifacts_error"]
    assert result["exit_code"] == 0


@as_root
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_a_transcript_of_another_users_is_none(tmp_path: Path, owner: int) -> None:
    """What lies in the transcript's place and is not the agent's does not come, though it has no other name."""
    path = tmp_path / "config/projects/any/s-1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("1\n")
    os.chown(path, owner, owner)
    outbox = OutgoingFiles(tmp_path)
    keeping = keep_transcript(
        "s-1",
        tmp_path / "config",
        tmp_path,
        homes=(),
        owner=NOBODY,
        max_bytes=0,
        max_line_bytes=0,
        outbox=outbox,
        redact=Redactor(),
        pace=Pace(None),
    )
    if owner == NOBODY:
        assert asyncio.run(keeping)["path"] == "s-1.jsonl"
    else:
        with pytest.raises(NoTranscript, match="no transcript of the session"):
            asyncio.run(keeping)


def test_a_line_longer_than_allowed_is_left_out(guest: Guest, run: Run) -> None:
    """Of a transcript with a line that is too long the rest comes."""
    body = "transcribe('s-1', 1, 'x' * 90_000, 3); result(session_id='s-1')"
    _, lines = transcript(guest, run(body, **WANTED, limits={"max_line_bytes": 50_000}))
    assert lines == [1, {"type": "flaude_line_left_out", "bytes": 90_002}, 3]


def test_what_was_not_asked_for_does_not_come(guest: Guest, run: Run) -> None:
    """No transcript and no artifact without being asked."""
    result = run("init('s-1'); transcribe('s-1', 1); write('x'); result(session_id='s-1')")
    assert "transcript" not in result and "artifacts" not in result and result["files"] == []
