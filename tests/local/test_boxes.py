from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from tests.local.conftest import Api, Open, config, file, opened

from flaude.local import LocalFly, LocalImage, processes, rootfs


async def test_machines_see_the_shared_folders_and_cannot_write_to_them(boxed: Open, tmp_path: Path) -> None:
    """A shared folder is readable at its own path; in a bubblewrap box read-only, what is beside it hidden."""
    shared = tmp_path / "share" / "deep"
    shared.mkdir(parents=True)
    (shared / "data").write_text("from the host")
    (tmp_path / "share" / "secret").write_text("hidden")
    async with boxed(share=[shared]) as api:
        machine = await api.started()
        assert (await api.exec(machine, "cat", str(shared / "data")))["stdout"] == "from the host"
        if api.fly.box == "bubblewrap":
            assert (await api.exec(machine, "cat", str(tmp_path / "share" / "secret")))["exit_code"] != 0
            assert (await api.exec(machine, "touch", str(shared / "new")))["exit_code"] != 0
    assert [path.name for path in shared.iterdir()] == ["data"]


@pytest.mark.parametrize("boxed", ["bubblewrap"], indirect=True)
async def test_a_bubblewrap_box_has_its_own_world(boxed: Open, tmp_path: Path) -> None:
    """Processes, /tmp and homes are the box's own, the host's programs cannot be written to, /workspace is there."""
    (tmp_path / "host").write_text("x")
    async with boxed() as api:
        one, two = await api.started(), await api.started()
        assert (await api.exec(one, "cat", "/proc/1/comm"))["stdout"] == "bwrap\n"
        assert (await api.exec(one, "ls", "-A", "/home"))["stdout"] == ""
        assert (await api.exec(one, "test", "-e", str(tmp_path)))["exit_code"] == 1
        assert (await api.exec(one, "touch", "/usr/bin/x", "/etc/x"))["exit_code"] != 0
        for place in (f"/{name}" for name in rootfs.FOLDERS):
            written = await api.exec(one, "sh", "-c", f"echo mine > {place}/one && cat {place}/one")
            assert written["stdout"] == "mine\n", written
            assert (await api.exec(two, "test", "-e", f"{place}/one"))["exit_code"] == 1
            assert (api.fly.machine_folder(one) / place.lstrip("/") / "one").read_text() == "mine\n"


@pytest.mark.parametrize("boxed", ["bubblewrap"], indirect=True)
async def test_a_user_can_be_made_by_appending_to_passwd(boxed: Open) -> None:
    """A line added to /etc/passwd makes a user for everything in that machine, and the host's file stays as it is."""
    before = await anyio.Path("/etc/passwd").read_bytes()
    async with boxed() as api:
        machine = await api.started()
        line = "flaude-test:x:54321:54321::/home/flaude-test:/bin/sh"
        await api.exec(machine, "sh", "-c", f"echo {line} >> /etc/passwd")
        assert (await api.exec(machine, "id", "-u", "flaude-test"))["stdout"] == "54321\n"
        if os.geteuid() == 0 and shutil.which("setpriv"):
            argv = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
            become = await api.exec(machine, *argv, "sh", "-c", "python3 -c 'print(1)'; claude --version; id -u")
            assert become["stdout"] == "1\n2.1.197 (Claude Code)\n54321\n", become
    assert await anyio.Path("/etc/passwd").read_bytes() == before


async def test_files_go_where_the_config_says(boxed: Open) -> None:
    """Files of the config are there before the command starts, with content and mode; a plain box maps their paths."""
    async with boxed() as api:
        files = [file("/opt/flaude/run.sh", "echo $1 > $0.out; exec sleep 600", mode=0o700), file("/job/in.txt", "in")]
        machine = await api.started("sh", "/opt/flaude/run.sh", "hello", files=files)
        assert await api.appears(machine, "opt/flaude/run.sh.out") == "hello\n"
        folder = api.fly.machine_folder(machine)
        assert (folder / "opt/flaude/run.sh").stat().st_mode & 0o777 == 0o700
        assert (await api.exec(machine, "cat", "/job/in.txt"))["stdout"] == "in"


async def test_an_image_has_its_path_and_environment(boxed: Open, tmp_path: Path) -> None:
    """An image brings folders of programs, readable in the box, and an environment; without any nothing is found."""
    tools = tmp_path / "tools" / "bin"
    tools.mkdir(parents=True)
    (tools / "greet").write_text("#!/bin/sh\necho hello $WHO\n")
    (tools / "greet").chmod(0o755)
    images = {"greeter:1": LocalImage.host(extra=[tools], env={"WHO": "you"}), "bare": LocalImage(path=())}
    async with boxed(images=images) as api:
        machine = await api.started(image="greeter:1")
        assert (await api.exec(machine, "greet"))["stdout"] == "hello you\n"
        assert (await api.exec(machine, "git", "--version"))["exit_code"] == 0
        assert "ExecError" in (await api.exec(machine, "claude", "--version"))["stdout"] or shutil.which("claude")
        bare = await api.create("python3", "-c", "", image="bare")
        await api.reach(bare, "stopped")
        assert (await api.exit_event(bare))["exit_code"] == 1


async def test_python3_is_without_the_virtual_environment(api: Api) -> None:
    """`python3` in a machine is the interpreter that runs this, without its virtual environment's packages."""
    machine = await api.started()
    done = await api.exec(machine, "python3", "-c", "import sys; print(sys.prefix, sys.version)")
    assert done["stdout"] == f"{sys.base_prefix} {sys.version}\n"


STRAY = "setsid sh -c 'trap \"\" TERM INT HUP; sleep 613' & setsid sleep 613 & "


async def test_nothing_outlives_a_machine(api: Api) -> None:
    """Neither after its command's end nor after a delete is anything of a machine left, not even in other sessions."""
    ended = await api.create("sh", "-c", STRAY + "exit 0")
    await api.reach(ended, "stopped")
    deleted = await api.started("sh", "-c", STRAY + "sleep 613")
    await api.exec(deleted, "sh", "-c", STRAY)
    await api.call("DELETE", f"/machines/{deleted}", force="true")
    await api.reach(deleted, "destroyed")
    for machine in (ended, deleted):
        assert await anyio.to_thread.run_sync(processes.with_environment, "FLY_MACHINE_ID", machine) == set()


async def test_leaving_the_block_ends_all_machines(boxed: Open) -> None:
    """When the block is left, also by cancellation, all machines are dead and the temporary folder is gone."""
    seen: list[Api] = []
    with anyio.CancelScope() as scope:
        async with boxed() as api:
            machines = [await api.started("sh", "-c", STRAY + "sleep 613") for _ in range(3)]
            assert (api.fly.alive, api.fly.peak_alive) == (3, 3)
            folder = api.fly.folder
            seen.append(api)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert seen[0].fly.alive == 0
    for machine in machines:
        assert await anyio.to_thread.run_sync(processes.with_environment, "FLY_MACHINE_ID", machine) == set()
    assert not folder.exists()


async def test_auto_falls_back_to_plain_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Where bubblewrap does not work, `auto` is plain with a warning, and `bubblewrap` an error that says why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        async with LocalFly() as fly:
            assert fly.box == "plain"
    assert "bwrap is not installed" in caplog.text
    with pytest.raises(RuntimeError, match="bwrap is not installed"):
        async with LocalFly(box="bubblewrap"):
            pass
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no user namespaces here >&2; exit 1\n")
    broken.chmod(0o755)
    (tmp_path / "nsenter").symlink_to("/bin/true")
    caplog.clear()
    async with LocalFly() as fly:
        assert fly.box == "plain"
    assert "no user namespaces here" in caplog.text


async def test_what_a_machine_prints_is_in_its_log(api: Api) -> None:
    """What the command prints is kept beside the machine's folder."""
    machine = await api.create("sh", "-c", "echo out; echo err >&2")
    await api.reach(machine, "stopped")
    assert api.fly.machine_folder(machine).with_suffix(".log").read_text() == "out\nerr\n"


async def test_a_machine_that_cannot_start_says_why(plain: Api) -> None:
    """A command that cannot be started ends the machine with an exit event that says why."""
    machine = await plain.create("printf", "a\0b", auto_destroy=True)
    await plain.reach(machine, "destroyed")
    event = await plain.exit_event(machine)
    assert event["exit_code"] == 1 and "null byte" in event["error"]


async def test_folder_of_ones_own_stays(tmp_path: Path) -> None:
    """A folder that was given stays, without the machines' own folders; machines do not see it in a box."""
    async with opened(folder=tmp_path / "mine") as api:
        machine = await api.started()
        assert api.fly.machine_folder(machine).is_relative_to(tmp_path / "mine")
        assert (await api.call("POST", "/machines", {"config": config()})).status_code == 200
    assert (tmp_path / "mine").is_dir()
    assert [path for path in (tmp_path / "mine" / "machines").iterdir() if path.is_dir()] == []
