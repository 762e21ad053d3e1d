"""The link to the guest on the worst reading of Fly: no stdin, small bodies, one exec at a time, cut answers."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.conftest import TOKEN, Machines
from tests.support.openapi import check_exchange

from flaude import ConcurrentExecutor, ExecutionRequest, FailureKind, MachineConfig, Retries
from flaude._guest.inside.packing import decompressed, pack_request, unpack_request
from flaude._guest.inside.pad import masked
from flaude._guest.inside.parts import PartsMissing, join, keep, name_of
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly.probe.saved import Saved, save
from flaude.cli.checks.uploads import largest_upload
from flaude.events import Event, Notice, Started
from flaude.local import Answer, DropAfter, Exchange, Fault, LocalImage, Quirks

PROSE = "\n".join(topics[name] for name in sorted(topics))
"""Python's own reference: 600 KB of English."""

READER = """#!/bin/sh
sum=$(sha256sum | cut -c1-64)
printf '{"type":"result","subtype":"success","is_error":false,"result":"%s","num_turns":1}\\n' "$sum"
"""
REJECTED = "Unhandled rejection: Rejection([PayloadTooLarge, MethodNotAllowed])"


@pytest.fixture
def reader(tmp_path: Path) -> LocalImage:
    """An image whose agent answers with the SHA-256 of its prompt."""
    program = tmp_path / "reader/bin/claude"
    program.parent.mkdir(parents=True)
    program.write_text(READER)
    program.chmod(0o755)
    return LocalImage.host(extra=[program.parent])


class Calls:
    """The execs of a local Fly server, as they were answered."""

    def __init__(self) -> None:
        self.verbs: Counter[str] = Counter()
        self.bodies: list[str] = []
        self.rejected = 0

    def __call__(self, exchange: Exchange) -> None:
        """Take one."""
        check_exchange(exchange)
        if exchange.path.endswith("/exec"):
            command = exchange.request["command"]
            self.verbs[command[5] if command[4:5] == ["ctl"] else f"guest {command[4]}"] += 1
            self.bodies.append(json.dumps(exchange.request))
            self.rejected += "Rejection(" in json.dumps(exchange.response)


def request(prompt: str, **fields: Any) -> ExecutionRequest:
    """A run with this prompt."""
    return ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, **fields))


@pytest.mark.parametrize(("characters", "most"), [(1_000, 1), (20_000, 2), (100_000, 6), (600_000, 30)])
async def test_prompts_of_any_length_arrive(machines: Machines, reader: LocalImage, characters: int, most: int) -> None:
    """A prompt arrives whole, in few calls, none of them with stdin or with a body over 12 KB."""
    calls, prompt = Calls(), (PROSE + PROSE)[:characters]
    async with machines(image=reader, on_exchange=calls) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(request(prompt).config)
    assert result.run_result is not None and result.run_result.text == hashlib.sha256(prompt.encode()).hexdigest()
    sent = calls.verbs["part"] + calls.verbs["start"]
    assert sent <= most
    upload = await largest_upload(ExecutorSettings("my-app"), [request("short"), request(prompt)], {})
    assert sent == (upload.calls if upload else 1), "what `flaude check` says"
    assert upload is None or upload.seconds == sent - 2, "one a second, and two at once"
    assert max(map(len, calls.bodies)) <= 12_000 and calls.rejected == 0
    assert not any('"stdin"' in body for body in calls.bodies)


async def test_a_megabyte_that_does_not_shrink_arrives(machines: Machines, reader: LocalImage) -> None:
    """Not even a prompt that nothing makes smaller is too long."""
    prompt = base64.b64encode(os.urandom(750_000)).decode()
    async with machines(image=reader) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly, rate_limits=None).run_one(request(prompt).config)
    assert result.run_result is not None and result.run_result.text == hashlib.sha256(prompt.encode()).hexdigest()


async def test_what_is_refused_as_too_large_is_sent_in_smaller_parts(machines: Machines, reader: LocalImage) -> None:
    """A rejected body is no answer: parts are halved until they pass, and the batch's other runs know it at once."""
    calls, prompt = Calls(), PROSE[:60_000]
    async with machines(image=reader, on_exchange=calls, quirks=Quirks(largest_exec_body=4000)) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None, max_concurrency=1)
        batch = await executor.run_batch([request(prompt), request(prompt + "!")])
    texts = [result.run_result.text for result in batch.results if result.run_result]
    assert texts == [hashlib.sha256(text.encode()).hexdigest() for text in (prompt, prompt + "!")]
    assert calls.rejected == 2, "12,000, 6,000, and then 3,000 bytes"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_rejection_is_one_in_whatever_stream(machines: Machines, stream: str) -> None:
    """The text of a rejection is never taken for an answer of the guest's, with whatever exit code."""
    faults = [Fault("exec_machine", Answer(200, body=json.dumps({stream: REJECTED})), times=1)]
    async with machines(faults=faults) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(request("::say done").config)
        assert len(fly.created) == 1
    assert result.success, result.error


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EAGAIN, errno.ENOMEM])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_one_exec_that_could_not_run_costs_no_machine(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, number: int, after: int
) -> None:
    """A process that could not be started is waited out; a missing program too, while the machine may not be ready."""
    if number != errno.ENOENT:
        monkeypatch.setattr("flaude._run.driver.NOT_READY_S", 0.0)
    rejection = f'Unhandled rejection: Rejection([ExecError(Io(Os {{ code: {number}, message: "" }}))])'
    fault = Fault("exec_machine", Answer(200, body=json.dumps({"stdout": rejection})), times=1, after=after)
    async with machines(faults=[fault]) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None)
        result = await executor.run_one(request("::say a\n::say b").config)
        assert result.success and len(fly.created) == 1


async def test_an_empty_answer_in_a_long_upload_is_waited_out(
    machines: Machines, reader: LocalImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that says nothing is no word on the image, even when the machine has run for long."""
    monkeypatch.setattr("flaude._run.driver.NOT_READY_S", 0.0)
    prompt = PROSE[:100_000]
    async with machines(image=reader, faults=[Fault("exec_machine", Answer(200, body="{}"), times=1, after=2)]) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly, rate_limits=None).run_one(request(prompt).config)
        assert result.success and len(fly.created) == 1


async def test_waits_that_were_measured_and_are_refused_now(machines: Machines) -> None:
    """A limit that Fly has lowered since it was measured is found anew; no run ends for it."""
    async with machines(quirks=Quirks(longest_exec_s=30)) as fly:
        kept = Saved(at=datetime.now(UTC), exec_s=58)
        await anyio.to_thread.run_sync(save, fly.base_url, kept)
        executor = ConcurrentExecutor("my-app", base_url=fly.base_url, token=fly.token)
        batch = await executor.run_batch([request("::say a"), request("::say b")])
        assert batch.all_succeeded and len(fly.created) == 2
        assert fly.requests["exec_machine", 400] > 0


@pytest.mark.parametrize("cut", [8, 32, 64])
async def test_cut_answers_lose_nothing(machines: Machines, repo: Path, cut: int) -> None:
    """Where Fly cuts what a command prints, all lines, patches and files come in pieces that fit."""
    lines: list[Event] = []
    says = ["::say " + "word " * 900] * 20
    prompt = "\n".join(["::shell head -c 60000 /dev/urandom > big.bin", "::write small.txt 10", *says])
    async with machines(quirks=Quirks(largest_exec_output=cut * 1024)) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None, on_event=lines.append)
        config = request(prompt, repos=[f"file://{repo}"], collect=["*.bin", "*.txt"], transcript=True).config
        result = await executor.run_one(config)
    assert result.success and result.run_result is not None, result.error
    sizes = {artifact.path: artifact.file.stat().st_size for artifact in result.run_result.artifacts}
    assert sizes == {"big.bin": 60_000, "small.txt": 3}
    assert "big.bin" in {change.path for change in result.run_result.patches[0].changes}
    assert sum("word word" in repr(event) for event in lines) >= 20


@pytest.mark.parametrize("faults", [[DropAfter()], [DropAfter(), DropAfter(), Answer(503)]], ids=["once", "thrice"])
async def test_parts_may_be_lost(machines: Machines, reader: LocalImage, faults: list[Any]) -> None:
    """An answer to a part, or to the whole, may be lost: what has arrived is not sent again, and nothing runs twice."""
    calls, prompt = Calls(), PROSE[:100_000]
    for after in range(0, 6, 2):
        lost = [Fault("exec_machine", effect, times=1, after=after + n) for n, effect in enumerate(faults)]
        async with machines(image=reader, on_exchange=calls, faults=lost) as fly:
            result = await ConcurrentExecutor("my-app", fly=fly, rate_limits=None).run_one(request(prompt).config)
            assert len(fly.created) == 1
        assert result.run_result is not None
        assert result.run_result.text == hashlib.sha256(prompt.encode()).hexdigest()


async def test_secrets_are_in_no_single_place(machines: Machines, repo: Path) -> None:
    """Neither what Fly is told of a machine, nor a record of its execs, tells a secret; both together would."""
    canaries = [TOKEN, "ghp_canary-of-the-git-host-1", "canary-in-a-variable-2"]
    creates: list[Any] = []
    execs: list[list[str]] = []

    def look(exchange: Exchange) -> None:
        if exchange.method == "POST" and exchange.path.endswith("/machines"):
            creates.append(exchange.request)
        elif exchange.path.endswith("/exec"):
            execs.append(exchange.request["command"])

    async with machines(on_exchange=look) as fly:
        fields = {"github_token": canaries[1], "env": {"DATABASE": SecretStr(canaries[2])}}
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(
            request("::say done", repos=[f"file://{repo}"], **fields).config
        )
    assert result.success
    (start,) = (unpack_request(command[-1]) for command in execs if command[5] == "start")
    files = {file["guest_path"]: base64.b64decode(file["raw_value"]) for file in creates[0]["config"]["files"]}
    told = json.dumps([creates, execs, start]) + "".join(map(repr, files.values()))
    assert not any(canary in told or canary[8:] in told for canary in canaries)
    nonce = bytes.fromhex(start["nonce"])
    job = json.dumps(decompressed(masked(base64.b64decode(start["masked"]), files["/opt/flaude/pad"], nonce)))
    assert set(start) == {"masked", "nonce"} and all(canary in job for canary in canaries), "they travelled in there"


async def test_the_pad_is_gone_before_the_agent_runs(machines: Machines) -> None:
    """The guest removes the pad's file when it has read it, and two machines never have the same."""
    pads: list[str] = []
    there: list[bool] = []

    def look(exchange: Exchange) -> None:
        if exchange.method == "POST" and exchange.path.endswith("/machines"):
            pads.extend(file["raw_value"] for file in exchange.request["config"]["files"][1:])

    async with machines(on_exchange=look) as fly:

        async def watch(event: Event) -> None:
            if isinstance(event, Started):
                pad = anyio.Path(fly.machine_folder(event.machine_id) / "opt/flaude/pad")
                there.append(await pad.exists())

        executor = ConcurrentExecutor("my-app", fly=fly, on_event=watch)
        assert (await executor.run_batch([request("::say a"), request("::say b")])).all_succeeded
    assert there == [False, False] and len(set(pads)) == 2


async def test_a_machine_that_is_not_ready_is_waited_for(machines: Machines) -> None:
    """For fifteen seconds after `started`, rejections, empty answers and missing programs mean "not yet"."""
    empty = [Fault("exec_machine", Answer(200, body=body), times=1) for body in ("{}", '{"exit_code": 127}')]
    async with machines(quirks=Quirks(exec_not_ready_s=1.5), faults=empty) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(request("::say done").config)
        assert result.success and len(fly.created) == 1


@pytest.mark.parametrize("reject", [True, False])
async def test_an_image_without_python_costs_one_machine(machines: Machines, tmp_path: Path, reject: bool) -> None:
    """A missing python3 is an `image` failure that says what is needed, and no second machine is paid for it."""
    empty = LocalImage(path=(tmp_path / "no-programs",))
    async with machines(image=empty, quirks=Quirks(reject_missing_program=reject)) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly, retries=Retries(wait=0.1)).run_one(request("x").config)
        assert len(fly.created) == 1
    assert result.failure is not None and result.failure.kind is FailureKind.IMAGE
    assert "the image needs python3 3.9 or newer" in result.failure.message


async def test_an_image_whose_exec_finds_no_python_is_told_after_a_while(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the machine runs and no exec ever finds python3, that is the image's fault too, told after the grace."""
    monkeypatch.setattr("flaude._run.driver.NOT_READY_S", 0.5)
    rejection = json.dumps({"stdout": "Unhandled rejection: Rejection([ExecError(Io(Os { code: 2 }))])"})
    async with machines(faults=[Fault("exec_machine", Answer(200, body=rejection))]) as fly:
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(request("x").config)
        assert len(fly.created) == 1
    assert result.failure is not None and result.failure.kind is FailureKind.IMAGE
    assert "the image needs python3 3.9 or newer" in result.failure.message


async def test_where_creates_are_too_large_the_guest_comes_in_parts(machines: Machines) -> None:
    """A create that Fly refuses for its size is made without the guest, which follows; later ones know it at once."""
    calls, told = Calls(), list[Event]()
    async with machines(on_exchange=calls, quirks=Quirks(largest_create_body=20_000)) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None, max_concurrency=1, on_event=told.append)
        batch = await executor.run_batch([request("::say a"), request("::say b")])
        assert batch.all_succeeded and fly.requests["create_machine", 400] == 1
    assert calls.verbs["guest part"] >= 8 and calls.verbs["guest join"] == 2
    assert sum(isinstance(event, Notice) and "in parts" in event.text for event in told) == 1


async def test_a_create_that_is_too_large_in_parts_too(machines: Machines) -> None:
    """One that Fly refuses without the guest as well says nothing about the guest: later ones hold it as before."""
    calls, told = Calls(), list[Event]()
    faults = [Fault("create_machine", Answer(413, "payload too large"), times=2)]
    async with machines(on_exchange=calls, faults=faults) as fly:
        options: dict[str, Any] = {"rate_limits": None, "max_concurrency": 1, "on_event": told.append}
        batch = await ConcurrentExecutor("my-app", fly=fly, **options).run_batch(
            [request("::say a"), request("::say b")]
        )
        first, second = batch.results
        assert first.failure is not None and first.failure.kind is FailureKind.CREATE_REFUSED and second.success
        assert fly.requests["create_machine", 413] == 2 and len(fly.created) == 1
    assert not calls.verbs["guest part"] and not any(isinstance(event, Notice) for event in told)


async def test_a_stop_does_not_wait_for_the_pull_that_waits(machines: Machines) -> None:
    """Where a machine runs one exec at a time, the pull that waits in it is answered at once when there is a stop."""
    order: list[str] = []

    def look(exchange: Exchange) -> None:
        verb = exchange.request["command"][5] if exchange.path.endswith("/exec") else ""
        order.append(verb or exchange.path.rpartition("/")[2])

    async with machines(on_exchange=look) as fly:
        started = anyio.Event()

        def watch(event: Event) -> None:
            if isinstance(event, Started):
                started.set()

        executor = ConcurrentExecutor("my-app", fly=fly, on_event=watch, handle_signals=False)
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with anyio.fail_after(12):  # a pull waits for fifteen
                    await executor.run_one(request("::sleep 600").config)

            tasks.start_soon(run)
            await started.wait()
            tasks.cancel_scope.cancel()
    assert order.index("signal") < order.index("cancel")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON), st.integers(0, 10_000))
def test_a_request_is_one_word(value: dict[str, Any], more: int) -> None:
    """Whatever is asked is one word of ASCII without blanks, and comes out as it went in."""
    value = {**value, "long": "prose " * more}
    packed = pack_request(value)
    assert packed.isascii() and not packed.startswith("@") and len(packed.split()) == 1
    assert unpack_request(packed) == value


@settings(deadline=None)
@given(st.binary(max_size=5000), st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_the_mask_is_its_own_inverse(data: bytes, pad: bytes, nonce: bytes) -> None:
    """Masked twice with the same pad and nonce, data is itself; with another nonce it is not."""
    hidden = masked(data, pad, nonce)
    assert masked(hidden, pad, nonce) == data
    assert len(data) < 8 or masked(hidden, pad, nonce[:-1] + bytes([nonce[-1] ^ 1])) != data


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_parts_in_any_order_are_the_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Parts of any lengths, in any order, some twice, some at first lost, make the request, or what lacks is told."""
    run_folder = str(tmp_path_factory.mktemp("run"))
    text = data.draw(st.text("ab", min_size=1, max_size=60))
    name, sizes = name_of(text), data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
    cuts = {offset: text[offset : offset + size] for size in sizes for offset in range(0, len(text), size)}
    sent = data.draw(st.permutations([*cuts.items(), *cuts.items()]))
    lost = data.draw(st.sets(st.sampled_from(sorted(cuts))))
    for offset, part in sent:
        if offset not in lost:
            keep(run_folder, name, str(offset), part)
    try:
        assert join(run_folder, name, str(len(text))) == text
    except PartsMissing as missing:
        size = min(sizes)
        assert lost, "nothing was missing"  # it may be raised, or not
        for offset in range(missing.offset, len(text), size):
            keep(run_folder, name, str(offset), text[offset : offset + size])
        assert join(run_folder, name, str(len(text))) == text
    keep(run_folder, name_of("another"), "0", "x")
    with pytest.raises(PartsMissing):
        join(run_folder, name, str(len(text)))
