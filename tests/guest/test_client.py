"""What comes through the link to the guest, and what does not."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.conftest import TOKEN

from flaude import FlyError, GuestError, InvalidRequestError, MachineConfig, NotReadyError, Timeouts, UnreachableError
from flaude._agent.events import EventContext, output_events
from flaude._guest.client import JobRefusedError, SupervisorClient
from flaude._guest.inside.packing import unpack_request
from flaude._guest.inside.server import pack
from flaude._guest.messages import GuestFile, PullReply, SpoolReader, unpack
from flaude._guest.program import prepare
from flaude._model.errors import PayloadTooLargeError
from flaude._providers.fly import FlyClient
from flaude._providers.fly.exec_limits import FIRST_BODY_BYTES, ExecLimits
from flaude._run.checkpoint import CollectedWork, dump_collected
from flaude._run.downloads import Downloaded
from flaude._run.job import build_job_message
from flaude._run.machine import machine_spec
from flaude._run.plan import new_pad
from flaude.events.codec import dump_event
from flaude.local import LocalFly
from flaude.local.simulated.requests import unmasked

PAD = bytes(32)
UNKNOWN = "canary-that-the-guest-does-not-know-77"


def test_a_piece_that_is_read_twice_counts_once() -> None:
    """Reading a piece of the spool changes nothing: one whose reading was cancelled is read again."""
    spool = SpoolReader()
    assert spool.feed(b'{"a": 1}\n{"b"') == [({"a": 1}, 9)]
    given_up, read = spool.read(b': 2}\n{"c": 3}\n'), spool.read(b": 2}\n")
    assert [record.value for record in given_up[0]] == [{"b": 2}, {"c": 3}]
    with pytest.raises(GuestError):
        spool.read(b"]\n")
    assert spool.take(read) == [({"b": 2}, 18)]
    assert spool.feed(b'{"c": 3}\n') == [({"c": 3}, 27)]


async def test_the_link_filters_what_the_guest_lets_through(local: LocalFly, repo: Path) -> None:
    """No secret of the run leaves the link in a line, a result or an error, whether or not the guest has seen to it."""
    config = MachineConfig(
        claude_code_oauth_token=TOKEN,
        prompt=f"::stderr on stderr {UNKNOWN}\n::write {UNKNOWN}.txt 1\n::fail the answer is {UNKNOWN}",
        repos=[f"file://{repo}"],
    )
    records: list[dict[str, Any]] = []
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        await prepare()
        pad = new_pad()
        spec = machine_spec(config, metadata={}, start_deadline_s=60, pad=pad)
        machine = await fly.create_machine("my-app", name="filtered", config=spec)
        await fly.wait_machine("my-app", machine.id, state="started")
        link = SupervisorClient(fly, "my-app", machine.id, [UNKNOWN])
        credentials = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}
        message = build_job_message(config, job_id="j", run_s=60, timeouts=Timeouts(), credentials=credentials)
        while True:
            try:
                if await link.start(message, pad):
                    break
            except NotReadyError:
                continue
        with pytest.raises(JobRefusedError, match="has the job j already"):
            await link.start({**message, "job_id": "another"}, pad)
        offset, raw = 0, b""
        while (reply := await link.pull("j", offset)).result is None or reply.next > offset:
            offset = reply.next
            raw += unpack(reply.data)
            records += [record.value for record in link.spool.feed(unpack(reply.data))]
        result = await link.result(reply)
        await link.ack("j")
        assert await fly.wait_machine("my-app", machine.id, state="destroyed")
    assert UNKNOWN.encode() in raw, "the guest has let it through"
    assert UNKNOWN not in repr(records) + repr(result)
    assert "on stderr [redacted]" in repr(records)
    assert [change.path for change in result.repos[0].changes] == ["[redacted].txt"]
    assert result.result_line is not None and "the answer is [redacted]" in repr(result.result_line)


def test_the_job_has_the_limits_of_the_config() -> None:
    """Megabytes become bytes, and room is kept for the patch where the agent may fill the disk."""
    config = MachineConfig(prompt="x", max_patch_mb=7, max_artifacts_mb=9, collect=["*.log"], transcript=True)
    made = build_job_message(config, job_id="j", run_s=60, timeouts=Timeouts(), credentials={}, push_branch="b")
    limits, mb = made["limits"], 1 << 20
    told = limits["max_patch_bytes"], limits["max_artifact_bytes"], limits["reserve_bytes"]
    assert told == (7 * mb, 9 * mb, 21 * mb)
    assert made["collect"] == {"patches": True, "artifacts": ["*.log"], "transcript": True, "push_branch": "b"}


class Client:
    """What a link needs to know of its client."""

    share = 1.0

    def __init__(self) -> None:
        self.exec_limits = ExecLimits()


class Impatient(Client):
    """A client whose every exec is too long for Fly.

    Args:
        share: Its `share`.
    """

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.share = share

    async def exec_machine(self, *_arguments: Any, timeout_s: int, **_options: Any) -> None:
        """Say so."""
        self.asked.append(timeout_s)
        raise UnreachableError("too long", status=408)


async def test_an_exec_that_is_too_long_is_shorter_the_next_time() -> None:
    """Fly does not say how long an exec may last: each 408 halves the wait, down to two seconds."""
    fly = Impatient()
    link = SupervisorClient(cast("FlyClient", fly), "my-app", "m")
    for _ in range(5):
        with pytest.raises(UnreachableError):
            await link.pull("j", 0)
    assert fly.asked == [25, 18, 14, 12, 12]


async def test_where_connections_are_few_a_pull_waits_less() -> None:
    """Who waits for long keeps the others from being asked: a guest that is not asked takes its controller for dead."""
    for share, asked in ((0.5, 18), (0.01, 12)):
        fly = Impatient(share)
        with pytest.raises(UnreachableError):
            await SupervisorClient(cast("FlyClient", fly), "my-app", "m").pull("j", 0)
        assert fly.asked == [asked]


class Answering(Client):
    """A client whose every exec is answered so."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer

    async def exec_machine(self, *_arguments: Any, **_options: Any) -> SimpleNamespace:
        """Answer."""
        return SimpleNamespace(exit_code=0, stdout=json.dumps(self.answer), stderr="")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"state": "running", "offset": 5, "next": 9}, "for offset 5 instead of 0"),
        ({"state": "odd", "offset": 0, "next": 0}, "answer to pull is not readable"),
        ({"error": "no job has been started"}, "pull: no job has been started"),
    ],
)
async def test_an_answer_to_something_else_is_refused(answer: dict[str, Any], error: str) -> None:
    """What is no answer to this very pull is an error: its bytes would be fed at the wrong place."""
    link = SupervisorClient(cast("FlyClient", Answering(answer)), "my-app", "m")
    with pytest.raises(GuestError, match=error):
        await link.pull("j", 0)


class Chatty(Client):
    """A client whose guest has as much to tell as it is asked for.

    Args:
        torn: The numbers of the answers that arrive in part.
    """

    def __init__(self, torn: set[int]) -> None:
        super().__init__()
        self.asked: list[int] = []
        self._torn = torn

    async def exec_machine(self, _app: str, _machine: str, command: list[str], **_options: Any) -> SimpleNamespace:
        """Answer a `pull`."""
        request = unpack_request(command[-1])
        self.asked.append(request["max_bytes"])
        most, offset = request["max_bytes"], request["offset"]
        answer = {"state": "running", "offset": offset, "next": offset + most, "data": "x" * most}
        cut = -1 if len(self.asked) in self._torn else None
        return SimpleNamespace(exit_code=0, stdout=json.dumps(answer)[:cut], stderr="")


async def test_answers_to_pulls_grow_and_shrink() -> None:
    """A full answer makes the next one twice as long, and one that is torn half as long."""
    fly = Chatty({3})
    link, offset = SupervisorClient(cast("FlyClient", fly), "my-app", "m"), 0
    for _ in range(5):
        with suppress(GuestError):
            offset = (await link.pull("j", offset)).next
    assert [asked >> 20 for asked in fly.asked] == [1, 2, 4, 2, 2]


class Torn(Client):
    """A client whose guest has much to tell as soon as it has the job, and of whose answers 8 KB arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    async def exec_machine(self, _app: str, _machine: str, command: list[str], **_options: Any) -> SimpleNamespace:
        """Answer a `start`."""
        most = unmasked(unpack_request(command[-1]), PAD)["pull"]["max_bytes"]
        self.asked.append(most)
        pull = {"state": "running", "offset": 0, "next": most, "data": "x" * most}
        return SimpleNamespace(exit_code=0, stdout=json.dumps({"accepted": True, "pull": pull})[: 8 * 1024], stderr="")


async def test_the_answer_to_a_start_may_be_torn() -> None:
    """The job is handed over again, with the wish for less news: the guest has it, or takes it now."""
    fly = Torn()
    link, job = SupervisorClient(cast("FlyClient", fly), "my-app", "m"), {"job_id": "j", "prompt": "x"}
    with pytest.raises(GuestError):
        await link.start(job, PAD)
    reply = await link.start(job, PAD)
    assert reply is not None and reply.next == fly.asked[-1]
    assert fly.asked[0] > 8 * 1024 > fly.asked[1]


class TornInParts(Client):
    """A client whose guest gets a job in parts; the answer to the first `start` arrives in part."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[str] = []

    async def exec_machine(self, _app: str, _machine: str, command: list[str], **_options: Any) -> SimpleNamespace:
        """Answer a `part` or a `start`."""
        if command[-3] == "part":
            return SimpleNamespace(exit_code=0, stdout='{"ok": true}', stderr="")
        self.starts.append(command[-1])
        answer = '{"accepted": true, "pu' if len(self.starts) == 1 else '{"accepted": true}'
        return SimpleNamespace(exit_code=0, stdout=answer, stderr="")


async def test_a_job_in_parts_is_not_sent_again_for_a_torn_answer() -> None:
    """The next `start` names the same job: the guest knows it, and no part travels twice."""
    fly = TornInParts()
    link, job = (
        SupervisorClient(cast("FlyClient", fly), "my-app", "m"),
        {"job_id": "j", "prompt": os.urandom(20_000).hex()},
    )

    async def handed_over() -> PullReply:
        while (reply := await link.start(job, PAD)) is None:
            pass
        return reply

    with pytest.raises(GuestError):
        await handed_over()
    assert await handed_over() == PullReply(state="waiting", offset=0, next=0)
    assert len(fly.starts) == 2 and len(set(fly.starts)) == 1


class Refusing(Client):
    """A client of a Fly that takes no such request, whatever its size."""

    def __init__(self, text: str, kind: type[FlyError]) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self._error = kind(text, fly_text=text)

    async def exec_machine(
        self, _app: str, _machine: str, command: list[str], *, timeout_s: int, **_options: Any
    ) -> SimpleNamespace:
        """Refuse it."""
        self.asked.append((len(json.dumps(command)), timeout_s))
        raise self._error


async def test_a_short_request_is_never_too_large() -> None:
    """Who says so of a few bytes is not ready; parts do not get smaller and smaller for it."""
    fly = Refusing("Rejection([PayloadTooLarge])", PayloadTooLargeError)
    link = SupervisorClient(cast("FlyClient", fly), "my-app", "m")
    with pytest.raises(NotReadyError, match="PayloadTooLarge"):
        await link.start({"job_id": "j", "prompt": "x"}, PAD)
    assert fly.exec_limits.body_bytes == FIRST_BODY_BYTES


async def test_a_wait_that_is_refused_is_halved_until_it_is_short() -> None:
    """Fly names the longest timeout that it takes; a refusal of the shortest one is an error like another."""
    fly = Refusing("invalid: timeout must not exceed 5 seconds", InvalidRequestError)
    link = SupervisorClient(cast("FlyClient", fly), "my-app", "m")
    for _ in range(3):
        with pytest.raises(NotReadyError):
            await link.pull("j", 0)
    with pytest.raises(InvalidRequestError):
        await link.pull("j", 0)
    assert [asked for _, asked in fly.asked] == [25, 18, 14, 12]


async def test_files_in_a_result_come_as_they_are() -> None:
    """A patch that happens to hold what looks like a secret is no patch any more when that is taken out."""
    data = pack(b"a patch")
    value = {"job_id": "j", "exit_code": 0, "ended_by": "exit", "message": f"said {data}"}
    file = {"name": "x", "size": 7, "sha256": "0" * 64, "data": data}
    link = SupervisorClient(cast("FlyClient", Impatient()), "my-app", "m", [data])
    reply = PullReply(state="done", offset=0, next=0, result={**value, "files": [file]})
    result = await link.result(reply)
    assert result.file("x").data == data and result.message == "said [redacted]"


async def test_a_file_that_arrived_damaged_is_refused() -> None:
    """What is not what the guest has announced is no patch."""
    link = SupervisorClient(cast("FlyClient", Impatient()), "my-app", "m")
    with pytest.raises(GuestError, match="damaged"):
        await link.fetch(GuestFile(name="x", size=3, sha256="0" * 64, data=pack(b"abc")))


async def test_an_answer_that_is_nested_too_deep() -> None:
    """What an agent nests deeper than anything can write down again is cut, and the rest of its result is kept."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    line = {"type": "result", "result": "done", "total_cost_usd": 0.5, "structured_output": deep}
    told = {"job_id": "j", "exit_code": 0, "ended_by": "exit", "result_line": line}
    reply = PullReply(state="done", offset=0, next=0, result=told)
    async with FlyClient(base_url="http://127.0.0.1:1", token="x") as fly:
        result = await SupervisorClient(fly, "my-app", "m").result(reply)
    kept = json.dumps(dump_collected(CollectedWork(result, Downloaded())))
    assert '"result": "done"' in kept and "nested too deep" in kept
    (event,) = output_events(EventContext("b", 0, "", datetime.now(UTC), ""), json.dumps(line), lambda value: value)
    assert "nested too deep" in json.dumps(dump_event(event))
