"""`ConcurrentExecutor`: many runs at once, in order, under a cap."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from flaude._agent.command import credentials
from flaude._executor.admission import AdmissionControl
from flaude._executor.background import stream
from flaude._executor.batch import BatchOptions, BatchRunner, refuse
from flaude._executor.event_delivery import EventHandler
from flaude._executor.preflight import stopped_before_launch
from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError, FlyError
from flaude._model.placement import Shards, check_shards
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult, ExecutionResult
from flaude._model.retries import Retries
from flaude._model.settings import ExecutorSettings
from flaude._model.timeouts import Timeouts
from flaude._providers.fly.app_pool import AppPool
from flaude._providers.fly.connection import FlyEndpoint, check_endpoint, client_for
from flaude._recovery.holding import start_batch, take_over
from flaude._recovery.resume import PriorProgress, load_progress
from flaude.events import Event
from flaude.events.buffer import BufferBudget, EventBuffer
from flaude.journal.entries import BatchEntry
from flaude.journal.protocol import Journal

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient


class _Open:
    """What the batches of one executor share while at least one of them goes on: connections, pace, apps and cap."""

    def __init__(self, fly: FlyClient, max_concurrency: int | None, timeouts: Timeouts) -> None:
        self.fly = fly
        self.apps = AppPool(fly, timeouts.patience)
        self.admission = AdmissionControl(max_concurrency, capacity_s=timeouts.capacity)
        self.opening = anyio.Lock()
        self.is_open = False


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
        base_url: Address of the Machines API; by default `FLY_FLAPS_BASE_URL`, `FLY_API_HOSTNAME`, or Fly's own.
        on_event: Called with every `Event`, plain or async. What it raises is logged and ends nothing. A run waits for
            it for ten seconds in all; from then on output that does not fit into the buffer is left out (`Skipped`).
        timeouts: How long the parts of a run may take.
        retries: Which failed runs are tried again on a new machine; a number for that many more attempts.
        max_auth_failures: After so many runs in a row that failed to authenticate, a batch launches no more; 0 for
            never.
        handle_signals: Whether SIGINT and SIGTERM stop a batch in order, as `run_batch` says. Signals that the program
            handles itself are left to it in any case.
        output_dir: Where what `collect` and `transcript` ask for goes, into a folder of its own for each run:
            `BATCH/000-TAG/artifacts/…`. It is made when the first file arrives.
        budget_usd: What all agents of a batch may cost, in US dollars. Each launch reserves its `max_budget_usd`; one
            that does not fit waits until others have ended below theirs, or ends as `budget`. The sum passes the budget
            by no more than Claude Code itself passes `max_budget_usd`.
        max_machine_seconds: How long all machines of a batch may be there together, in seconds: then nothing more is
            launched, and agents are stopped and their work collected, which takes `Timeouts.grace` and `collect` more.
        journal: Where to keep a durable record of every batch, such as a `flaude.journal.SqliteJournal`, so that
            `resume` can go on with it when this process is gone. Without one nothing is kept. Of a request it has
            everything but secret values (tokens, `SecretStr`s). While it cannot be written, no agent is started.
        source: Where the requests come from, for people who read the journal.
        shards: How many apps the machines of a batch are spread over, up to 64: Fly creates one machine per second and
            app. With 3 the apps are `my-app`, `my-app-2` and `my-app-3`. flaude creates the extra apps if they are
            missing, in the organisation of the first and each with a private network of its own; this takes about one
            second per app. If the token may not do that, create them before (`ensure_app`). A batch that is resumed
            stays in its apps.
        keep_shards: Whether the extra apps stay when a batch has ended. Otherwise the last batch of this executor that
            uses them deletes them, except those that still have machines. Keep apps that other processes use.
        rate_limits: How many times Fly's published rate limits the account has, which Fly raises on request; `None` for
            an API without any.

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
        retries: Retries | int | None = None,
        max_auth_failures: int = 5,
        handle_signals: bool = True,
        output_dir: str | Path = "flaude-output",
        budget_usd: float | None = None,
        max_machine_seconds: float | None = None,
        journal: Journal | None = None,
        source: str = "",
        shards: int = 1,
        keep_shards: bool = True,
        rate_limits: float | None = 1.0,
    ) -> None:
        check_endpoint(fly, token=token, base_url=base_url)
        if on_event is not None and not callable(on_event):
            raise ConfigError(f"on_event: give a function that takes an event, not {type(on_event).__name__}")
        self.settings = ExecutorSettings(
            app_name,
            max_concurrency=max_concurrency,
            wait_timeout=wait_timeout,
            timeouts=Timeouts() if timeouts is None else timeouts,
            retries=Retries() if retries is None else Retries(more=retries) if isinstance(retries, int) else retries,
            max_auth_failures=max_auth_failures,
            output_dir=Path(output_dir) if isinstance(output_dir, str) else output_dir,
            budget_usd=budget_usd,
            max_machine_seconds=max_machine_seconds,
            shards=shards,
            keep_shards=keep_shards,
            rate_limits=rate_limits,
        ).check()
        self._options = BatchOptions(self.settings, handle_signals, on_event)
        self._token = token
        self._base_url = base_url
        self._endpoint = fly
        self._journal = journal
        self._source = source
        self._shared: _Open | None = None
        self._users = 0
        self._held = AsyncExitStack()

    @classmethod
    def from_settings(
        cls,
        settings: ExecutorSettings,
        *,
        token: str | None = None,
        fly: FlyEndpoint | None = None,
        base_url: str | None = None,
        on_event: EventHandler | None = None,
        handle_signals: bool = True,
        journal: Journal | None = None,
        source: str = "",
    ) -> Self:
        """An executor with the settings of a batch file: all of them, by one name.

            spec = await flaude.batch_file.load("batch.yaml", environ=os.environ)
            executor = ConcurrentExecutor.from_settings(spec.settings)

        Args:
            settings: What `flaude.batch_file.load` has read, or the `settings` of another executor.
            token: As for the class; so are the others.
            fly: Another Machines API than Fly's.
            base_url: Its address.
            on_event: Called with every event.
            handle_signals: Whether SIGINT and SIGTERM stop the batch in an orderly way.
            journal: Where to keep a durable record.
            source: Where the requests come from.

        Raises:
            ConfigError: A setting or argument is wrong; the message names it.
        """
        own = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "app"}
        return cls(
            settings.app,
            **own,
            token=token,
            fly=fly,
            base_url=base_url,
            on_event=on_event,
            handle_signals=handle_signals,
            journal=journal,
            source=source,
        )

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

        Never raises for what may happen to a run: each result tells.

        When cancelled, or at the first SIGINT or SIGTERM, nothing more is launched, the agents are asked to stop, what
        they have done is collected within `timeouts.grace` + `timeouts.collect` + 30 seconds, and all machines are
        destroyed; then it raises. When cancelled once more, or at the second signal, nothing more is collected. At the
        third signal the program ends at once, with the names of what may be alive on stderr.

        Returns:
            One result per request, in the order of the requests.

        Raises:
            ConfigError: A request is not an `ExecutionRequest`, or has a secret's value where the `journal` would keep
                it.
            JournalError: There is a `journal`, and the batch could not be written to it; nothing was made.
            LeaseLostError: Another process has taken the batch over, of which this one had not let the journal hear for
                too long (a laptop that slept); the machines are its now.
            BatchLeftError: There is a `journal`, and Fly has refused the token, which had worked, for longer than
                `timeouts.patience`. The machines keep running, and `resume` collects their work.
            Interrupted: SIGINT (Ctrl-C); what was collected is in its `batch`.
            Terminated: SIGTERM; what was collected is in its `batch`.
        """
        return await self._run_all(list(requests), _noop, asyncio.current_task())

    async def resume(
        self, batch: str, requests: Sequence[ExecutionRequest] | None = None, *, only: Collection[int] | None = None
    ) -> BatchResult:
        """Continue a batch of the journal that no process runs any more.

        Runs that are still going are followed from where they were left, those that have ended meanwhile are collected,
        those that never got a machine are started, and finished runs stay unchanged. Nothing is paid twice.

        Args:
            batch: The batch's id.
            requests: Its requests, unchanged. By default they are read from the journal, with secrets from the
                environment variables that `EnvSecret` names.
            only: Resume only the runs with these indexes.

        Returns:
            What `run_batch` would have, for the runs that are over now.

        Raises:
            ConfigError: There is no journal, the batch is another app's, the requests are not those of the batch, a run
                of `only` is none of its runs, or a secret is not to be had.
            FlyError: The app is not there, or there is no token.
            NoSuchBatchError: The journal has no such batch.
            BatchHeldError: Another process runs it.
            LeaseLostError: See `run_batch`; so are `BatchLeftError`, `Interrupted` and `Terminated`.
            JournalError: The journal cannot be read or written.
        """
        return await self._go_on_with(batch, requests, only, cancel=False)

    async def cancel(
        self, batch: str, requests: Sequence[ExecutionRequest] | None = None, *, only: Collection[int] | None = None
    ) -> BatchResult:
        """Cancel a batch of the journal that no process runs any more: stop its agents and collect their work.

        Runs that never got a machine are dropped.

        Args:
            batch: The batch's id.
            requests: As for `resume`: their secrets are removed from the agents' output.
            only: Cancel only the runs with these indexes.

        Raises:
            FlaudeError: As `resume`, except `BatchLeftError`: a cancelled run is never left.
        """
        return await self._go_on_with(batch, requests, only, cancel=True)

    async def launch(self, requests: Iterable[ExecutionRequest]) -> BatchResult:
        """Start a batch and detach from it: its machines keep running, and `resume` collects their results.

        Returns once as many agents are running as `max_concurrency` and the budget allow; `resume` starts the others.
        A machine waits for it as long as `Timeouts.orphan` and `linger` say, and then ends: set both to hours.

        Returns:
            The results of the runs that are over already, and the `id` of the batch.

        Raises:
            ConfigError: There is no journal, or a request is none.
            JournalError: The journal cannot be written.
            FlyError: The app is not there, or there is no token.
            BatchLeftError: See `run_batch`; so are `LeaseLostError`, `Interrupted` and `Terminated`.
        """
        if self._journal is None:
            raise ConfigError("journal: launch needs one, for `resume` to collect the results; give a SqliteJournal")
        await self.check()
        return await self._run_all(list(requests), _noop, asyncio.current_task(), detach=True)

    async def check(self) -> tuple[str, ...]:
        """See that there is a token, that it may use the app, and that no name of a shard is another app's.

        Returns:
            The shards that are missing; a batch makes them, about one a second.

        Raises:
            NoTokenError: There is no token.
            FlyError: Fly does not know the app, or does not let the token in; or a shard's name is taken.
        """
        async with self._open() as shared:
            return await shared.apps.look_at(self.settings.apps)

    async def _go_on_with(
        self,
        batch: str,
        requests: Sequence[ExecutionRequest] | None,
        only: Collection[int] | None,
        *,
        cancel: bool,
    ) -> BatchResult:
        if self._journal is None:
            raise ConfigError("journal: there is none to resume a batch from; give the one that it was run with")
        given = None if requests is None else dict(enumerate(requests))
        self._check_requests(given or {})
        async with self._open() as shared, AsyncExitStack() as stack:
            await shared.apps.known(self.settings.app)
            await stack.enter_async_context(self._journal)
            shards, keep = await self._kept_apps(self._journal, batch)
            # Before the batch is held: making apps may take longer than a lease lasts.
            held = shared.apps.held(shards, keep=keep, make=not cancel, new=False)
            apps = await stack.enter_async_context(held)
            writer = await stack.enter_async_context(take_over(self._journal, batch))
            prior, open_ = await load_progress(self._journal, batch, os.environ, given=given, only=only)
            self._check_requests(open_)
            for request in open_.values():
                credentials(request.config, os.environ)
            running = BatchRunner(
                self._options,
                open_,
                shared.fly,
                shared.admission,
                _noop,
                asyncio.current_task(),
                prior=prior,
                writer=writer,
                apps=apps,
            )
            if cancel:
                running.cancel()
            return await running.run()

    async def _kept_apps(self, journal: Journal, batch: str) -> tuple[Shards, bool]:
        """The apps that the batch was begun in, and whether to keep them.

        Elsewhere none of its machines would be found, and all would be taken for lost.
        """
        entry = await journal.batch(batch)
        if entry.app != self.settings.app:
            raise ConfigError(f"app_name: the machines of batch {batch} are in {entry.app}, not in {self.settings.app}")
        count, keep = entry.settings.get("shards", 1), entry.settings.get("keep_shards", True)
        check_shards(entry.app, count, keep)
        return Shards(entry.app, count), keep

    async def run_one(self, config: MachineConfig, *, name: str | None = None, tag: str = "") -> ExecutionResult:
        """Run a single config; like `run_batch`, it does not raise for what may happen to the run.

        Raises:
            ConfigError: `config` or `name` is of no use, see `ExecutionRequest`.
        """
        batch = await self.run_batch([ExecutionRequest(config=config, name=name, tag=tag)])
        return batch.results[0]

    async def as_completed(self, requests: Iterable[ExecutionRequest]) -> AsyncGenerator[ExecutionResult]:
        """The results as the runs end. Leaving the loop early stops the rest and destroys their machines."""
        requests, consumer = list(requests), asyncio.current_task()
        send, receive = anyio.create_memory_object_stream[ExecutionResult](len(requests))

        async def done(result: ExecutionResult) -> None:
            with suppress(anyio.BrokenResourceError):  # the consumer has left
                await send.send(result)

        async def work() -> None:
            with send:
                await self._run_all(requests, done, consumer)

        # Closed here and now: an abandoned generator would only be closed when Python finds it.
        with receive:
            async with aclosing(stream(receive, work)) as results:
                async for result in results:
                    yield result

    async def stream(self, requests: Iterable[ExecutionRequest]) -> AsyncGenerator[Event]:
        """What happens to the runs, as it happens; each ends with its `Finished`, which has the result.

        A run waits for who iterates for ten seconds in all; from then on output that does not fit into the buffer is
        left out (`Skipped`), results never. To leave the loop early, hold this in a `contextlib.aclosing`: that returns
        when all is stopped and destroyed, where Python alone would do it some time later.
        """
        requests, consumer = list(requests), asyncio.current_task()
        events = EventBuffer(BufferBudget())
        async with aclosing(stream(events, lambda: self.run_into(events, requests, _noop, consumer))) as happening:
            async for event in happening:
                yield event

    async def run_into(
        self,
        events: EventBuffer,
        requests: Sequence[ExecutionRequest],
        done: Callable[[ExecutionResult], Awaitable[None]],
        owner: asyncio.Task[Any] | None,
    ) -> None:
        """What `stream` is made of, for who holds the buffer of events: it is closed when the last run is over.

        Args:
            events: Takes every event.
            requests: What to run.
            done: Called with every result.
            owner: The task that is to hear of signals.
        """
        try:
            await self._run_all(requests, done, owner, events)
        finally:
            events.close()

    async def _run_all(
        self,
        requests: Sequence[ExecutionRequest],
        done: Callable[[ExecutionResult], Awaitable[None]],
        owner: asyncio.Task[Any] | None,
        feed: EventBuffer | None = None,
        *,
        detach: bool = False,
    ) -> BatchResult:
        numbered = dict(enumerate(requests))
        self._check_requests(numbered)
        began, prior = anyio.current_time(), PriorProgress()
        async with AsyncExitStack() as stack:
            try:
                shared = await stack.enter_async_context(self._open())
                apps = None
                if requests:
                    async with stopped_before_launch(self._options, prior.id, requests, owner):
                        await shared.apps.known(self.settings.app)
                        held = shared.apps.held(self.settings.apps, keep=self.settings.keep_shards)
                        apps = await stack.enter_async_context(held)
            except FlyError as error:
                # Nothing can run without a token or the app: said once a request, before any machine is made.
                return await refuse(self._options, requests, prior.id, error, done, feed, anyio.current_time() - began)
            writer = None
            if self._journal is not None:
                kept = {**self.settings.dump(), "source": self._source, "detached": detach}
                entry = BatchEntry(prior.id, self.settings.app, datetime.now(UTC), kept)
                writer = await stack.enter_async_context(start_batch(self._journal, entry, numbered))
            batch = BatchRunner(
                self._options,
                numbered,
                shared.fly,
                shared.admission,
                done,
                owner,
                feed,
                prior,
                writer,
                apps,
                detach=detach,
            )
            return await batch.run()

    def _check_requests(self, requests: Mapping[int, ExecutionRequest]) -> None:
        for index, request in requests.items():
            if not isinstance(request, ExecutionRequest):
                raise ConfigError(f"requests[{index}]: give an ExecutionRequest, not {type(request).__name__}")
            if self.settings.budget_usd is not None and request.config.max_budget_usd is None:
                raise ConfigError(
                    f"requests[{index}].config.max_budget_usd: missing; with budget_usd each launch reserves what its "
                    "run may cost, so every request has to say it"
                )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[_Open]:
        """One client and one cap for all batches that go on at the same time."""
        if self._shared is None:
            client = client_for(
                self._endpoint,
                token=self._token,
                base_url=self._base_url,
                timeout_s=self.settings.timeouts.request,
                retry_for_s=self.settings.timeouts.retry,
                rate_limits=self.settings.rate_limits,
            )
            # No await between the test above and this: two batches would open two.
            self._shared = _Open(client, self.settings.max_concurrency, self.settings.timeouts)
        shared = self._shared
        self._users += 1
        try:
            async with shared.opening:
                if not shared.is_open:
                    await shared.fly.__aenter__()
                    shared.is_open = True
            yield shared
        finally:
            self._users -= 1
            if self._users == 0:
                self._shared = None
                with anyio.CancelScope(shield=True):
                    await shared.fly.__aexit__(None, None, None)


async def _noop(_result: ExecutionResult) -> None:
    """Waits for no single result."""
