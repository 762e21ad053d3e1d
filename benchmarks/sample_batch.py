"""A batch that never ran, but might have: its runs, their results and their events are made up, always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flaude import (
    Artifact,
    Attempt,
    Commit,
    ExecutionResult,
    Failure,
    FailureKind,
    FileChange,
    ModelUsage,
    PermissionDenial,
    Phase,
    RepoResult,
    RunFailedError,
    RunResult,
    Times,
    Usage,
)
from flaude.events import (
    AssistantText,
    Booted,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Destroying,
    Event,
    Notice,
    PhaseBegan,
    Queued,
    Retried,
    Started,
    ToolResult,
    ToolUse,
)
from flaude.report import ReportData, ReportRun

BEGAN = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
BATCH = "5e0c1b7a42"
AT_ONCE = 25

_REPOS = ("api", "web", "billing", "worker", "docs", "mobile")
_AREAS = ("auth", "cart", "search", "emails", "exports", "sessions", "uploads", "webhooks", "rates", "invoices")
_TASKS = {
    "review": "Review the {area} module of {repo} for security issues. Fix what you find, and add a test for each fix.",
    "types": "Add type hints to {area} in {repo} until `mypy --strict` is clean. Change no behaviour.",
    "tests": "Raise the coverage of {area} in {repo} to 90 %. Test behaviour, not lines.\n\n"
    "- no mocks of our own code\n- one rule a test\n- leave the slow tests alone",
    "port": "Port {area} in {repo} from the old client (`legacy.http`) to the new one (`platform.client`).",
}
_FAILURES = (
    (FailureKind.DEADLINE, Phase.AGENT, "the run took longer than its 3600 s; the agent was stopped"),
    (FailureKind.CLONE, Phase.CLONE, "https://github.com/your-org/mobile: Repository not found"),
    (FailureKind.AGENT_ERROR, Phase.AGENT, "Claude Code: the tests of this module need a database that is not here"),
    (FailureKind.MAX_TURNS, Phase.AGENT, "Claude Code: error_max_turns"),
    (FailureKind.OVERLOADED, Phase.AGENT, "Claude Code: API Error: 529 Overloaded"),
)


def sample_batch(runs: int = 200, *, seed: int = 7, steps: int = 30) -> ReportData:
    """A batch of so many runs.

    Args:
        runs: How many.
        seed: Another one is another batch.
        steps: How often its agents use a tool, about.
    """
    made = tuple(_Maker(random.Random(seed), steps).runs(runs))  # noqa: S311  # nobody has to be unable to guess it
    ended = max(event.at for run in made for event in run.events)
    settings = {"max_concurrency": AT_ONCE, "wait_timeout": 3600.0, "budget_usd": 250.0, "source": "reviews.yaml"}
    return ReportData(
        runs=made,
        id=BATCH,
        app="my-app",
        began=BEGAN,
        ended=ended,
        settings=settings,
        in_journal=True,
        made=ended + timedelta(minutes=3),
    )


class _Maker:
    def __init__(self, dice: random.Random, steps: int) -> None:
        self._dice = dice
        self._steps = steps
        self._free = [BEGAN] * AT_ONCE

    def runs(self, number: int) -> Iterator[ReportRun]:
        """So many runs, each in a place that another one has left."""
        for index in range(number):
            place = min(range(AT_ONCE), key=lambda one: self._free[one])
            at = max(self._free[place], BEGAN + timedelta(seconds=index))
            run = self._run(index, at)
            self._free[place] = run.events[-1].at
            yield run

    def _run(self, index: int, at: datetime) -> ReportRun:
        dice = self._dice
        repo, area, task = dice.choice(_REPOS), dice.choice(_AREAS), dice.choice(list(_TASKS))
        tag = f"{repo}-{area}-{task}-{index}"
        story = _Story(dice, index, tag, at)
        if dice.random() < 0.06:  # noqa: PLR2004  # one in sixteen is tried again
            story.attempt_without_agent()
        failure = dice.choice(_FAILURES) if dice.random() < 0.07 else None  # noqa: PLR2004  # one in fourteen
        result = story.attempt(repo, area, failure, self._steps)
        return ReportRun(
            index=index,
            tag=tag,
            prompt=_TASKS[task].format(area=area, repo=repo),
            repos=(f"https://github.com/your-org/{repo}",),
            model="claude-sonnet-5" if index % 3 else "claude-opus-5",
            machine="shared-cpu-2x, 2 CPUs, 4 GB",
            result=result,
            events=tuple(story.events),
        )


class _Story:
    """One run, told as it goes."""

    def __init__(self, dice: random.Random, index: int, tag: str, at: datetime) -> None:
        self._dice = dice
        self._at = at
        self._times: dict[str, datetime] = {}
        self._attempts: list[Attempt] = []
        self._where = (BATCH, index, tag)
        self._machine = ""
        self.events: list[Event] = []
        self._phase(Queued, BEGAN)

    def _pass(self, mean_s: float) -> None:
        self._at += timedelta(seconds=self._dice.lognormvariate(0, 0.5) * mean_s)

    def _tell(self, kind: type[Event], *rest: object) -> None:
        self.events.append(kind(*self._where, self._at, self._machine, *rest))

    def _phase(self, kind: type[PhaseBegan], at: datetime, *rest: object) -> None:
        self._times[kind.phase.value] = at
        self.events.append(kind(*self._where, at, self._machine, *rest))

    def _boot(self) -> None:
        self._machine = ""
        self._phase(Creating, self._at)
        self._pass(1.5)
        self._machine = f"{self._dice.getrandbits(56):014x}"
        self._phase(Created, self._at, "iad")
        self._pass(8)

    def _destroy(self) -> None:
        self._phase(Destroying, self._at)
        self._pass(3)
        self._phase(Destroyed, self._at, True)

    def _attempt(self, failure: Failure | None, *, started: bool, cost: float | None) -> Attempt:
        number, times = len(self._attempts) + 1, Times(**self._times)
        seconds = times.seconds or 0.0
        attempt = Attempt(
            number=number,
            name=f"flaude-{BATCH}-{self._where[1]}" + (f"-a{number}" if number > 1 else ""),
            machine_id=self._machine,
            region="iad",
            state="destroyed",
            gone=True,
            failure=failure,
            agent_started=started,
            cost_usd=cost,
            machine_seconds=seconds,
            machine_cost_usd=seconds * 0.0000098,
            times=times,
        )
        self._attempts.append(attempt)
        return attempt

    def attempt_without_agent(self) -> None:
        """A machine that does not boot, and is tried again."""
        self._boot()
        self._pass(50)
        self._destroy()
        failure = Failure(kind=FailureKind.BOOT_TIMEOUT, phase=Phase.BOOT, message="the machine did not start in 120 s")
        number = self._attempt(failure, started=False, cost=None).number
        self._tell(Retried, number, failure, 4.0)
        self._times = {"queued": self._at}
        self._pass(4)

    def attempt(
        self, repo: str, area: str, failed: tuple[FailureKind, Phase, str] | None, steps: int
    ) -> ExecutionResult:
        """One that gets as far as it gets."""
        failure = Failure(kind=failed[0], phase=failed[1], message=failed[2]) if failed else None
        self._boot()
        self._phase(Booted, self._at)
        self._pass(12)
        started = failure is None or failure.phase is not Phase.CLONE
        turns = 0
        if started:
            self._phase(Started, self._at)
            turns = self._work(area, steps)
            self._phase(Collecting, self._at)
            self._pass(2)
        self._destroy()
        stopped = failure is not None and failure.kind is FailureKind.DEADLINE
        cost = None if stopped or not started else round(turns * self._dice.uniform(0.004, 0.03), 4)
        usage = Usage(
            input_tokens=turns * 310,
            output_tokens=turns * self._dice.randint(150, 700),
            cache_creation_input_tokens=turns * 900,
            cache_read_input_tokens=turns * self._dice.randint(9_000, 30_000),
        )
        attempt = self._attempt(failure, started=started, cost=cost)
        own_end = failure is None or (started and not stopped)
        run_result = RunResult(
            machine_id=self._machine,
            exit_code=(0 if failure is None else 1) if own_end else (124 if stopped else None),
            state="destroyed",
            destroyed=True,
            region="iad",
            failure=failure,
            text="" if failure else _answer(area, repo),
            session_id=f"{self._dice.getrandbits(32):08x}-5c1e-4c7e-9a55-0e5b7b8f2a10" if started else "",
            num_turns=turns if cost is not None else None,
            cost_usd=cost,
            usage=usage if started else Usage(),
            model_usage={"claude-sonnet-5": ModelUsage(**usage.model_dump(), cost_usd=cost)} if cost else {},
            permission_denials=(PermissionDenial(tool_name="WebFetch", tool_input={"url": "https://example.com/a"}),)
            if started and self._dice.random() < 0.1  # noqa: PLR2004  # one in ten
            else (),
            machine_seconds=attempt.machine_seconds,
            machine_cost_usd=attempt.machine_cost_usd,
            patches=(_repo(self._dice, repo, area),) if started else (),
            artifacts=_artifacts(self._where[2]) if failure is None and self._dice.random() < 0.3 else (),  # noqa: PLR2004
            stderr_tail=("warn: 2 moderate severity vulnerabilities",) if failure else (),
            times=attempt.times,
            attempts=tuple(self._attempts),
        )
        error = None if own_end or failure is None else RunFailedError(failure)
        return ExecutionResult(tag=self._where[2], run_result=run_result, error=error, attempts=tuple(self._attempts))

    def _work(self, area: str, steps: int) -> int:
        self._tell(AssistantText, f"I'll start by looking at `{area}` and its tests.")
        turns = max(3, int(self._dice.lognormvariate(0, 0.6) * steps))
        for number in range(turns):
            self._pass(5)
            self._use(f"toolu_{number}", area)
            if number % 7 == 6:  # noqa: PLR2004  # now and then it says something
                self._tell(AssistantText, self._dice.choice(_REMARKS).format(area=area))
        if self._dice.random() < 0.2:  # noqa: PLR2004  # one in five
            self._tell(Notice, "a pull was answered by 503 and sent again")
        return turns

    def _use(self, id_: str, area: str) -> None:
        name, used, answer, failed = self._dice.choice(_USES)
        self._tell(ToolUse, id_, name, {key: value.format(area=area) for key, value in used.items()})
        self._pass(2)
        self._tell(ToolResult, id_, answer.format(area=area), failed)


_REMARKS = (
    "The token is compared letter by letter, so its timing tells how far it is right. I'll compare in constant time.",
    "Two tests fail now, and both should: they asserted the old, wrong behaviour. I'll correct them.",
    "`{area}` is clean. Let me run the whole suite once more.",
)

_FAILED_TEST = """........F..........                                                    [100%]
=== FAILURES ===
____ test_expired_token_is_refused ____

    def test_expired_token_is_refused(client):
>       assert client.get("/me", headers=OLD).status_code == 401
E       assert 200 == 401

1 failed, 18 passed in 1.24s"""

_USES: tuple[tuple[str, dict[str, str], str, bool], ...] = (
    (
        "Bash",
        {"command": "python -m pytest -q tests/test_{area}.py", "description": "Run the tests of {area}"},
        _FAILED_TEST,
        True,
    ),
    ("Bash", {"command": "git status --short"}, " M src/{area}.py\n?? tests/test_{area}_limits.py", False),
    (
        "Read",
        {"file_path": "/workspace/src/{area}.py"},
        "".join(f"{number:>6}\tline {number} of a module that does its work\n" for number in range(1, 40)),
        False,
    ),
    (
        "Edit",
        {
            "file_path": "/workspace/src/{area}.py",
            "old_string": "    if token == stored:\n        return user",
            "new_string": "    if hmac.compare_digest(token, stored):\n        return user",
        },
        "The file /workspace/src/{area}.py has been updated.",
        False,
    ),
    (
        "Grep",
        {"pattern": "def .*{area}", "path": "/workspace/src"},
        "src/{area}.py:12:def load_{area}(\nsrc/{area}.py:48:def save_{area}(",
        False,
    ),
)


def _answer(area: str, repo: str) -> str:
    return (
        f"I reviewed `{area}` in {repo} and fixed two issues:\n\n"
        "1. **Token comparison** leaked timing; it is constant-time now.\n"
        "2. **Session lookup** accepted expired sessions for up to a minute.\n\n"
        f"Each has a test that fails without its fix. `pytest tests/test_{area}.py` passes: 21 tests."
    )


def _repo(dice: random.Random, repo: str, area: str) -> RepoResult:
    parts, changes = list[str](), list[FileChange]()
    for number in range(dice.randint(1, 4)):
        path = f"src/{area}.py" if number == 0 else f"tests/test_{area}_{number}.py"
        added, removed = dice.randint(3, 60), dice.randint(1, 20) if number == 0 else 0
        parts.append(_file(path, area, added, removed))
        changes.append(FileChange(path=path, status="A" if number else "M", added=added, removed=removed))
    return RepoResult(
        url=f"https://github.com/your-org/{repo}",
        path=f"/workspace/{repo}",
        head=f"{dice.getrandbits(160):040x}",
        changes=tuple(changes),
        diff="".join(parts).encode(),
        commits=(
            Commit(
                id=f"{dice.getrandbits(160):040x}",
                author="Claude <noreply@anthropic.com>",
                authored_at="2026-11-26T09:41:00+00:00",
                subject=f"{area}: compare tokens in constant time",
            ),
        ),
    )


def _file(path: str, area: str, added: int, removed: int) -> str:
    new = removed == 0
    old = "".join(f"-    value = legacy_{area}({number})\n" for number in range(removed))
    lines = "".join(f"+    assert {area}({number}) == {number * 7}  # was never checked\n" for number in range(added))
    context = "" if new else f" def check_{area}():\n"
    return (
        f"diff --git a/{path} b/{path}\n"
        + ("new file mode 100644\n" if new else "")
        + f"index {'0' * 40 if new else 'a' * 40}..{'b' * 40}{'' if new else ' 100644'}\n"
        + f"--- {'/dev/null' if new else f'a/{path}'}\n+++ b/{path}\n"
        + (f"@@ -0,0 +1,{added} @@\n" if new else f"@@ -12,{removed + 2} +12,{added + 2} @@ import {area}\n")
        + context
        + old
        + lines
        + ("" if new else "     return True\n")
    )


def _artifacts(tag: str) -> tuple[Artifact, ...]:
    return tuple(
        Artifact(path=path, size=size, sha256="c" * 64, file=Path(f"flaude-output/{BATCH}/{tag}/artifacts/{path}"))
        for path, size in (("report/coverage.html", 48_213), ("report/coverage.xml", 9_102))
    )
