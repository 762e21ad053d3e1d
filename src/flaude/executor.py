"""`ConcurrentExecutor`: many runs at once, in order, under a cap."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import isawaitable
from types import TracebackType
from typing import Protocol, Self

import anyio

from flaude import claude
from flaude.config import MachineConfig
from flaude.errors import ConfigError, FlaudeError, FlyError
from flaude.events import Event, Finished, PhaseBegan
from flaude.fly import FlyClient
from flaude.results import BatchResult, ExecutionResult, Phase
from flaude.run_driver import Run, RunPlan
from flaude.stream import stream
from flaude.timeouts import Timeouts

_log = logging.getLogger(__name__)


class FlyEndpoint(Protocol):
    """Where a Machines API is and the token that it takes: `flaude.local.LocalFly` is one."""

    @property
    def base_url(self) -> str:
        """Base URL without `/v1`."""

    @property
    def token(self) -> str:
        """The token to send."""


@dataclass(frozen=True)
class ExecutionRequest:
    """One run to make.

    Args:
        config: What to run, and on which machine.
        name: The Fly machine's name, unique among the living machines of the app; made up when it is `None`.
        tag: Returned as it is in `ExecutionResult.tag`.

    Raises:
        ConfigError: `config` is no `MachineConfig`, or `name` cannot be a machine's name.
    """

    config: MachineConfig
    name: str | None = None
    tag: str = ""

    def __post_init__(self) -> None:
        """Check what a type checker would have found, and the name."""
        if not isinstance(self.config, MachineConfig):
            raise ConfigError(f"config: give a MachineConfig, not {type(self.config).__name__}")
        if self.name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.name):
            raise ConfigError(f"name: {self.name!r} is no machine name; use up to 63 of a-z, 0-9 and '-'")


EventHandler = Callable[[Event], Awaitable[None] | None]


class _Open:
    """What the batches of one executor share while at least one of them goes on: connections, pace and cap."""

    def __init__(self, fly: FlyClient, max_concurrency: int | None) -> None:
        self.fly = fly
        self.places = anyio.CapacityLimiter(max_concurrency or math.inf)


class ConcurrentExecutor:
    """Runs many Claude Code prompts at once, each alone on a Fly machine of its own that is gone afterwards.

    Usable as it is, or as `async with` to keep the connections between batches.

    Args:
        app_name: The Fly app to make the machines in; `ensure_app` makes it.
        token: Fly token; else `FLY_API_TOKEN`, `FLY_ACCESS_TOKEN`, or flyctl's config file.
        max_concurrency: How many machines may be alive at once, over all batches of this executor; `None` or 0 for no
            limit.
        wait_timeout: How long one run may take once its machine has booted, in seconds.
        fly: Another Machines API than Fly's, such as a `flaude.local.LocalFly`.
        base_url: Likewise, by its address alone; else `FLY_FLAPS_BASE_URL`, `FLY_API_HOSTNAME`, Fly.
        on_event: Called with every `Event`, plain or async. What it raises is logged and ends nothing.
        timeouts: How long the parts of a run may take.

    Raises:
        ConfigError: An argument is wrong; the message names it.
    """

    def __init__(
        self,
        app_name: str,
        *,
        token: str | None = None,
        max_concurrency: int | None = None,
        wait_timeout: float = 3600.0,
        fly: FlyEndpoint | None = None,
        base_url: str | None = None,
        on_event: EventHandler | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        if not isinstance(app_name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", app_name):
            raise ConfigError(f"app_name: {app_name!r} is no app name; use up to 63 of a-z, 0-9 and '-'")
        if max_concurrency is not None and (not isinstance(max_concurrency, int) or max_concurrency < 0):
            raise ConfigError(
                f"max_concurrency: give a number above 0, or None or 0 for no limit; not {max_concurrency}"
            )
        if not wait_timeout > 0 or math.isinf(wait_timeout):
            raise ConfigError(f"wait_timeout: give seconds above 0, not {wait_timeout!r}")
        if fly is not None and (token is not None or base_url is not None):
            raise ConfigError("fly: brings its own token and base_url; leave those two out")
        self._app = app_name
        self._token = token
        self._base_url = base_url
        self._endpoint = fly
        self._max_concurrency = max_concurrency
        self._run_s = wait_timeout
        self._on_event = on_event
        self._timeouts = timeouts or Timeouts()
        self._shared: _Open | None = None
        self._users = 0
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the connections and keep them.

        Raises:
            NoTokenError: There is no Fly token.
        """
        await self._held.enter_async_context(self._open())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections, once no batch uses them any more."""
        await self._held.aclose()

    async def run_batch(self, requests: Iterable[ExecutionRequest]) -> BatchResult:
        """Run all requests and wait for all of them.

        Never raises for what may happen to a run: each result tells. When cancelled, the agents are asked to stop,
        what they have done is collected, and the machines are destroyed, before the cancellation goes on.

        Returns:
            One result a request, in the order of the requests.
        """
        requests = list(requests)
        results: dict[int, ExecutionResult] = {}

        async def keep(index: int, result: ExecutionResult) -> None:
            results[index] = result

        await self._run_all(requests, keep)
        return BatchResult(results=[results[index] for index in range(len(requests))])

    async def run_one(self, config: MachineConfig, *, name: str | None = None, tag: str = "") -> ExecutionResult:
        """Run a single config; like `run_batch`, it does not raise for what may happen to the run.

        Raises:
            ConfigError: `config` or `name` is of no use, see `ExecutionRequest`.
        """
        batch = await self.run_batch([ExecutionRequest(config=config, name=name, tag=tag)])
        return batch.results[0]

    async def as_completed(self, requests: Iterable[ExecutionRequest]) -> AsyncGenerator[ExecutionResult]:
        """The results as the runs end. Leaving the loop early stops the rest and destroys their machines."""
        requests = list(requests)

        async def produce(send: Callable[[ExecutionResult], Awaitable[None]]) -> None:
            async def pass_on(_index: int, result: ExecutionResult) -> None:
                await send(result)

            await self._run_all(requests, pass_on)

        # Closed here and now: an abandoned generator would only be closed when Python finds it.
        async with aclosing(stream(produce, buffer=len(requests))) as results:
            async for result in results:
                yield result

    async def _run_all(
        self, requests: Sequence[ExecutionRequest], done: Callable[[int, ExecutionResult], Awaitable[None]]
    ) -> None:
        for index, request in enumerate(requests):
            if not isinstance(request, ExecutionRequest):
                raise ConfigError(f"requests[{index}]: give an ExecutionRequest, not {type(request).__name__}")
        batch = secrets.token_hex(5)
        async with AsyncExitStack() as stack:
            try:
                shared = await stack.enter_async_context(self._open())
                if requests:
                    await shared.fly.get_app(self._app)
            except FlyError as error:
                # Nothing can run without a token or the app: said once a request, before any machine is made.
                for index, request in enumerate(requests):
                    await done(index, ExecutionResult(tag=request.tag, error=error))
                return
            names: set[str] = set()
            async with anyio.create_task_group() as tasks:
                for index, request in enumerate(requests):
                    problem = self._problem(request, names)
                    if problem is not None:
                        await done(index, ExecutionResult(tag=request.tag, error=problem))
                        continue
                    tasks.start_soon(self._run_request, shared, batch, index, request, done)

    def _problem(self, request: ExecutionRequest, names: set[str]) -> FlaudeError | None:
        if request.name is not None:
            if request.name in names:
                return ConfigError(f"name: {request.name!r} is used twice in this batch; machine names are unique")
            names.add(request.name)
        try:
            claude.credentials(request.config, os.environ)
        except FlaudeError as error:
            return error
        return None

    async def _run_request(
        self,
        shared: _Open,
        batch: str,
        index: int,
        request: ExecutionRequest,
        done: Callable[[int, ExecutionResult], Awaitable[None]],
    ) -> None:
        plan = RunPlan(
            app=self._app,
            config=request.config,
            batch=batch,
            index=index,
            name=request.name or f"flaude-{batch}-{index}",
            tag=request.tag,
            run_s=self._run_s,
            timeouts=self._timeouts,
            credentials=claude.credentials(request.config, os.environ),
            queued=datetime.now(UTC),
        )
        await self._emit(PhaseBegan(batch, index, request.tag, plan.queued, phase=Phase.QUEUED, machine_id=""))
        run = Run(shared.fly, plan, self._emit)
        try:
            async with shared.places:
                result = await run.execute()
        finally:
            # Also when cancelled: whoever watches hears how every run ended.
            with anyio.CancelScope(shield=True):
                await self._emit(Finished(batch, index, request.tag, datetime.now(UTC), result=run.result))
        await done(index, result)

    async def _emit(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            answer = self._on_event(event)
            if isawaitable(answer):
                await answer
        except Exception:  # noqa: BLE001  # whatever a watcher does, the runs go on
            _log.exception("on_event raised for %s", type(event).__name__)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[_Open]:
        """One client and one cap for all batches that go on at the same time."""
        if self._shared is None:
            base_url: str | None
            token: str | None
            if self._endpoint is not None:
                base_url, token = self._endpoint.base_url, self._endpoint.token
            else:
                base_url, token = self._base_url, self._token
            client = FlyClient(base_url=base_url, token=token, retry_for_s=self._timeouts.retry)
            # No await between the test above and this: two batches would open two.
            self._shared = _Open(client, self._max_concurrency)
        shared = self._shared
        self._users += 1
        try:
            if self._users == 1:
                await shared.fly.__aenter__()
            yield shared
        finally:
            self._users -= 1
            if self._users == 0:
                self._shared = None
                with anyio.CancelScope(shield=True):
                    await shared.fly.__aexit__(None, None, None)
