from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio
import anyio.abc
import pytest
from tests.conftest import TOKEN, Machines

from flaude._providers.fly import FlyClient
from flaude.cli.checks import fly as fly_checks
from flaude.cli.checks import this_computer as checks
from flaude.cli.checks.this_computer import Check, Verdict
from flaude.cli.commands.doctor import doctor
from flaude.journal import SqliteJournal
from flaude.local import Answer, Effect, Fault, Hang, LocalFly, Quirks


@pytest.fixture
def on_local(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> LocalFly:
    """The environment of somebody for whom the stand-in is Fly."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", local.base_url)
    monkeypatch.setenv("FLY_API_TOKEN", local.token)
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
    return local


@asynccontextmanager
async def answering(*lines: str, answers: bool = True) -> AsyncIterator[str]:
    """An API that answers each request with these headers, or never; yields its address."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            if not answers:
                await anyio.sleep_forever()
            head = "\r\n".join(["HTTP/1.1 401 Unauthorized", "Content-Length: 0", "Connection: close", *lines])
            await stream.send(f"{head}\r\n\r\n".encode())

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # anyio's, and nothing of Django
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


async def test_all_is_right(on_local: LocalFly, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With everything there each line says so, the exit code is 0, no secret is shown, and no journal is made."""
    assert await doctor(app="my-app") == 0
    captured = capsys.readouterr()
    found = {line[7:27].strip(): (line[:7].strip(), line[27:]) for line in captured.out.splitlines() if line[0] != " "}
    names = ["python", "git", "bubblewrap", "journal", "claude credentials", "fly token", "fly api", "clock", "app"]
    names += ["machine limit"]
    assert list(found) == [*names, "image"]
    assert {found[name][0] for name in names if name != "bubblewrap"} == {"ok"}
    assert found["fly token"][1] == "from FLY_API_TOKEN"
    assert found["claude credentials"][1] == "from CLAUDE_CODE_OAUTH_TOKEN"
    assert found["app"][1] == "my-app is there, and the token may use it; machines now: 0"
    assert found["journal"][1] == f"{tmp_path / 'flaude-home'}, not there yet"
    assert on_local.token not in captured.out and TOKEN not in captured.out and captured.err == ""
    assert not (tmp_path / "flaude-home").exists()  # a look at a folder


async def test_without_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without tokens, network and git each line says what is wrong and what to do, and the exit code is 1."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("FLY_APP", "my-app")
    assert await doctor(json=True) == 1
    found = {told["name"]: told for told in map(json.loads, capsys.readouterr().out.splitlines())}
    verdicts = {name: told["verdict"] for name, told in found.items()}
    assert verdicts == {
        **dict.fromkeys(("python", "journal"), "right"),
        **dict.fromkeys(("git", "claude credentials", "fly token", "fly api"), "wrong"),
        **dict.fromkeys(("bubblewrap", "app", "image"), "note"),
    }
    assert all(told["fix"] for name, told in found.items() if told["verdict"] == "wrong"), found
    assert "bwrap is not installed" in found["bubblewrap"]["found"]
    assert f"no answer from http://127.0.0.1:{port}" in found["fly api"]["found"]


async def test_what_never_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whatever does not answer is given up after a while; what else was found is told."""
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nexec sleep 600\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(fly_checks, "WITHIN_S", 0.5)
    monkeypatch.setenv("FLY_API_TOKEN", TOKEN)
    async with answering(answers=False) as url:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", url)
        with anyio.fail_after(20):
            assert await doctor(app="my-app", json=True) == 1
    found = {told["name"]: told["verdict"] for told in map(json.loads, capsys.readouterr().out.splitlines())}
    assert [found[name] for name in ("git", "fly api", "app", "python")] == ["wrong", "wrong", "wrong", "right"]


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "told"),
    [(0, Verdict.RIGHT, "agrees"), (-3600, Verdict.WRONG, "s ahead of"), (3600, Verdict.WRONG, "s behind")],
)
async def test_the_clock(ahead_s: float, verdict: Verdict, told: str) -> None:
    """A clock that differs from the API's by more than a minute is wrong; any answer means that it is reached."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    async with answering(f"Date: {date}") as url:
        api, clock = await fly_checks.api_and_clock({"FLY_FLAPS_BASE_URL": url})
    assert api.verdict is Verdict.RIGHT
    assert clock.verdict is verdict and told in clock.found
    async with answering("Date: yesterday") as url:
        _, clock = await fly_checks.api_and_clock({"FLY_FLAPS_BASE_URL": url})
    assert clock.verdict is Verdict.NOTE


async def test_an_address_that_is_none() -> None:
    """An address that no request can go to is wrong, and the line names the variable."""
    (api,) = await fly_checks.api_and_clock({"FLY_FLAPS_BASE_URL": "ftp://x"})
    assert api.verdict is Verdict.WRONG and "FLY_FLAPS_BASE_URL" in api.fix


async def test_a_proxy_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that cannot be used is told, without its password."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:canary@127.0.0.1:1080")
    monkeypatch.setenv("https_proxy", "socks5://me:canary@127.0.0.1:1080")
    (api,) = await fly_checks.api_and_clock({"FLY_FLAPS_BASE_URL": "https://api.example.com"})
    assert api.verdict is Verdict.WRONG and "HTTPS_PROXY" in api.fix and "canary" not in api.found


@pytest.mark.parametrize(
    ("app", "token", "verdict", "told"),
    [
        ("other-app", None, Verdict.WRONG, "there is no app other-app"),
        ("No App", None, Verdict.WRONG, "is not a valid app name"),
        ("my-app", "wrong", Verdict.WRONG, "Fly refused the token"),
        ("my-app", "", Verdict.NOTE, "no Fly token"),
        ("", None, Verdict.NOTE, "none is named"),
    ],
)
async def test_the_app(
    on_local: LocalFly, monkeypatch: pytest.MonkeyPatch, app: str, token: str | None, verdict: Verdict, told: str
) -> None:
    """An app that is not there, or that the token may not use, is wrong."""
    if token is not None:
        monkeypatch.setenv("FLY_API_TOKEN", token)
    (found,) = await fly_checks.app(app)
    assert (found.verdict is verdict and told in found.found and found.fix) or verdict is Verdict.NOTE
    assert on_local.token not in f"{found}"


@pytest.mark.parametrize(
    ("environ", "verdict", "told"),
    [
        ({"FLY_API_TOKEN": "FlyV1 fm2_canary"}, Verdict.RIGHT, "from FLY_API_TOKEN"),
        ({"FLY_ACCESS_TOKEN": "canary"}, Verdict.RIGHT, "from FLY_ACCESS_TOKEN"),
        ({"FLY_API_TOKEN": "canary\ncanary"}, Verdict.WRONG, "FLY_API_TOKEN: the Fly token has blanks"),
        ({"FLY_API_TOKEN": " "}, Verdict.WRONG, "there is none"),
    ],
)
async def test_where_the_token_is(tmp_path: Path, environ: dict[str, str], verdict: Verdict, told: str) -> None:
    """The line says where the Fly token is from, and never what it is."""
    found = await checks.fly_token({"FLY_CONFIG_DIR": str(tmp_path), **environ})
    assert (found.verdict, told in found.found) == (verdict, True) and "canary" not in f"{found}"
    (tmp_path / "config.yml").write_text("access_token: canary\n")
    found = await checks.fly_token({"FLY_CONFIG_DIR": str(tmp_path)})
    assert found.verdict is Verdict.NOTE and "from access_token in flyctl's config.yml" in found.found
    assert "within minutes" in found.found and "fly tokens create deploy -a my-app -x 24h" in found.fix
    assert "canary" not in f"{found}"


@pytest.mark.parametrize(
    ("names", "verdict", "told"),
    [
        ([], Verdict.WRONG, "neither"),
        (["ANTHROPIC_API_KEY"], Verdict.RIGHT, "from ANTHROPIC_API_KEY"),
        (["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"], Verdict.NOTE, "CLAUDE_CODE_OAUTH_TOKEN is used"),
    ],
)
async def test_claude_credentials(names: Sequence[str], verdict: Verdict, told: str) -> None:
    """The line says which variable lets Claude Code in, warns of two, and never shows a value."""
    found = await checks.claude_credentials(dict.fromkeys(names, "canary"))
    assert found.verdict is verdict and told in found.found and "canary" not in f"{found}"


def files(folder: Path) -> dict[str, bytes]:
    """All that is in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_the_journal(tmp_path: Path) -> None:
    """The line says where the journal is and of which version, or why it cannot be used; it stays as it is."""
    async with SqliteJournal(tmp_path / "home"):
        pass
    environ = {"FLAUDE_HOME": str(tmp_path / "home")}
    found = await checks.journal(environ)
    assert found == Check("journal", Verdict.RIGHT, f"{tmp_path / 'home'}, version 1")
    connection = sqlite3.connect(tmp_path / "home" / "journal.sqlite3", isolation_level=None)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = files(tmp_path / "home")
    found = await checks.journal(environ)
    assert found.verdict is Verdict.WRONG and "newer flaude (journal version 7" in found.found
    assert files(tmp_path / "home") == before
    (tmp_path / "file").write_text("")
    found = await checks.journal({"FLAUDE_HOME": str(tmp_path / "file" / "home")})
    assert (found.verdict, found.found) == (Verdict.WRONG, f"{tmp_path / 'file'} is no folder")
    assert "FLAUDE_HOME" in found.fix


@pytest.mark.parametrize(
    ("refused", "where"),
    [
        ((), "the organisation personal: 20"),
        (("org",), "2 apps of personal: 20"),
        (("org", "apps"), "the app my-app: 18"),
    ],
)
async def test_machines_are_counted(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], where: str
) -> None:
    """The organisation's where the token may see them, else the apps', else the app's own; 20 are worth a note."""
    faults = {"org": "list_org_machines", "apps": "list_apps"}
    quirks = Quirks(machine_limit=None, young_app_s=0)
    async with machines(apps=["my-app", "theirs"], quirks=quirks, box="simulated") as fly:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        spec = {"image": "x", "init": {"exec": ["sleep", "600"]}}
        made = []
        async with FlyClient(base_url=fly.base_url, token=fly.token, rate_limits=None) as client:
            for app, number in [*(("my-app", n) for n in range(18)), ("theirs", 18), ("theirs", 19)]:
                made.append((app, (await client.create_machine(app, name=f"m{number}", config=spec)).id))
            fly.faults.add(*(Fault(faults[one], Answer(403, "unauthorized")) for one in refused))
            _, limit = await fly_checks.app("my-app")
            assert limit.name == "machine limit" and f"machines now in {where}; an account may have 20" in limit.found
            assert limit.verdict is (Verdict.RIGHT if where.endswith("18") else Verdict.NOTE)
            assert "flaude reap" in limit.fix or limit.verdict is Verdict.RIGHT
            note = await fly_checks.limit_note("my-app", 3)
            assert note.startswith("up to 3 machines at once next to the ") and where.partition(":")[0] in note
            for app, machine in made:
                await client.delete_machine(app, machine, force=True)
                await client.wait_machine(app, machine, state="destroyed", timeout_s=10)
            assert await fly_checks.limit_note("my-app", 20) == "", "those that are gone do not count"
    assert await fly_checks.limit_note("my-app", 20) == "", "it needs no network"
    assert "up to 21 machines at once: an account may have 20 to 50 at first" in await fly_checks.limit_note(
        "my-app", 21
    )


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        (Answer(401, "unauthorized"), "could not be counted in time"),
        (Answer(429, "slow down"), "machines now in the app my-app: 0"),
        (Answer(500, "oh no"), "machines now in the app my-app: 0"),
        (Answer(200, body="<html>"), "machines now in the app my-app: 0"),
        (Hang(), "could not be counted in time"),
    ],
)
async def test_an_app_whose_machines_are_not_counted(
    on_local: LocalFly, monkeypatch: pytest.MonkeyPatch, effect: Effect, told: str
) -> None:
    """Whether the app is there does not hang on the count of machines."""
    monkeypatch.setattr(fly_checks, "_COUNT_S", 0.5)
    on_local.faults.add(Fault("list_org_machines", effect), Fault("list_apps", effect))
    there, limit = await fly_checks.app("my-app")
    assert there == Check("app", Verdict.RIGHT, "my-app is there, and the token may use it; machines now: 0")
    assert limit.name == "machine limit" and limit.verdict is not Verdict.WRONG and told in limit.found


async def test_an_app_is_asked_for_once(on_local: LocalFly) -> None:
    """What Fly has said of the app is enough to count its organisation's machines."""
    assert [check.verdict for check in await fly_checks.app("my-app")] == [Verdict.RIGHT, Verdict.RIGHT]
    assert on_local.requests["get_app", 200] == 1


async def test_machines_are_counted_page_by_page(local: LocalFly) -> None:
    """A page may be empty with more to come: the cursor alone tells, and one that comes again is the last."""
    pages = [
        {"machines": [], "next_cursor": "a"},
        {"machines": [{"id": "1", "state": "stopped"}, {"id": "2", "state": "destroyed"}], "next_cursor": "b"},
        {"machines": [{"id": "3", "state": "started"}], "next_cursor": "a"},
    ]
    local.faults.add(*(Fault("list_org_machines", Answer(200, body=json.dumps(page)), times=1) for page in pages))
    async with FlyClient(base_url=local.base_url, token=local.token) as client:
        assert await client.count_machines("personal") == 2
