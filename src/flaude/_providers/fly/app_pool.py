"""The apps that the batches of one executor use at the same time: looked at once, made when missing, removed last."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio

from flaude._model.backoff import OutageBackoff, jitter
from flaude._model.errors import FlyError, NameTakenError, RateLimitedError, TokenExpiredError, UnreachableError
from flaude._model.placement import Shards
from flaude._providers.fly.shard_admin import find_shard, make_shard, remove_shard, side_by_side

if TYPE_CHECKING:
    from flaude._providers.fly import App, FlyClient

_log = logging.getLogger(__name__)

_KNOWN_FOR_S = 60.0
_REMOVED_WITHIN_S = 30.0

T = TypeVar("T")


class AppPool:
    """Knows which apps there are, and which of them batches use.

    Args:
        fly: The client.
        patience_s: For how long Fly may fail to answer, in seconds: what is asked here is asked before any run.
    """

    def __init__(self, fly: FlyClient, patience_s: float) -> None:
        self._fly = fly
        self._patience_s = patience_s
        self._seen: dict[str, tuple[App, float]] = {}
        self._users: Counter[str] = Counter()
        self._turn = anyio.Lock()

    async def find(self, name: str) -> App:
        """The app.

        Raises:
            FlyError: It is not there, or the token may not use it.
        """
        return await self._remembered(name, lambda: self._fly.get_app(name))

    async def look_at(self, shards: Shards) -> tuple[str, ...]:
        """See that nothing but shards has the names of shards; those that are missing are no error.

        Returns:
            Those that are missing.

        Raises:
            FlyError: As `find`, and as `find_shard`.
        """
        await self.find(shards.app)
        looked = await side_by_side(shards.others, lambda name: find_shard(self._fly, name))
        for found in looked.values():
            if isinstance(found, FlyError):
                raise found
        return tuple(name for name, found in looked.items() if found is None)

    async def known(self, name: str) -> App:
        """The app; one that was there within the last minute is not asked for again.

        Fly takes a call a second for that: many small batches would wait for each other.

        Raises:
            FlyError: As `find`.
        """
        async with self._turn:
            return self._recent(name) or await self.find(name)

    @asynccontextmanager
    async def held(
        self, shards: Shards, *, keep: bool = True, make: bool = True, new: bool = True
    ) -> AsyncIterator[HeldApps]:
        """The apps of a batch, for as long as the block lasts; the first one is there, and the others are made.

        Args:
            shards: The apps.
            keep: Whether the extra apps stay when the last batch that uses them has ended.
            make: Whether those are made that are missing.
            new: Whether the batch is a new one. Of one that was begun before, the apps may be in use until it is sure
                that nobody else carries it out: then only `HeldApps.let_go` removes any.

        Raises:
            FlyError: One could not be had; those that could are removed again, if they are not to be kept. A batch that
                was begun before goes on without it, for what its machines have done; unless another app has the name.
        """
        held = HeldApps(self, shards, keep=keep)
        try:
            if make and shards.others:
                await self._make(shards, all_=new)
            yield held
        finally:
            await held.let_go(remove=new)

    async def _make(self, shards: Shards, *, all_: bool) -> None:
        first = await self.known(shards.app)
        org = first.organization.slug or "personal"

        async def make(name: str) -> None:
            if not self._recent(name):
                await self._remembered(name, lambda: make_shard(self._fly, name, org))

        async with self._turn:
            for made in (await side_by_side(shards.others, make)).values():
                if isinstance(made, FlyError):
                    if all_ or isinstance(made, NameTakenError):
                        raise made
                    _log.warning("going on without an app that cannot be had: %s", made)

    def _recent(self, name: str) -> App | None:
        app, until = self._seen.get(name, (None, 0.0))
        return app if anyio.current_time() < until else None

    async def _remembered(self, name: str, ask: Callable[[], Awaitable[App]]) -> App:
        """The answer; an API that gives none is waited out as in a run."""
        patience = OutageBackoff(self._patience_s)
        while True:
            began = anyio.current_time()
            try:
                app = await ask()
            except (RateLimitedError, TokenExpiredError, UnreachableError) as error:
                if patience.failed(began, anyio.current_time(), counts=True):
                    raise
                _log.warning("waiting out: %s", error)
                await anyio.sleep(jitter(patience.pause_s))
            else:
                self._seen[name] = app, anyio.current_time() + _KNOWN_FOR_S
                return app

    def take(self, names: Collection[str]) -> None:
        """Somebody uses them from now on."""
        self._users.update(names)

    def leave(self, names: Collection[str]) -> None:
        """Somebody uses them no more."""
        self._users.subtract(names)

    def forget(self, names: Collection[str]) -> None:
        """They may be gone: the next batch asks again."""
        for name in names:
            self._seen.pop(name, None)

    async def remove(self, names: Collection[str], batch: str, within_s: float) -> list[str]:
        """Remove those that nobody uses; why some stay, a sentence each.

        Args:
            names: The apps.
            batch: A batch whose machines there are known to be gone.
            within_s: How long all of it may take, in seconds.
        """
        told = {name: f"{name} stays: it was not removed within {within_s:g} s" for name in self._unused(names)}
        if not told:
            return []

        async def remove(name: str) -> None:
            told[name] = await remove_shard(self._fly, name, batch=batch)

        with anyio.move_on_after(within_s):
            async with self._turn:
                # Another batch may have come meanwhile, and use them now.
                told = {name: told[name] for name in self._unused(told)}
                self.forget(told)
                await side_by_side(list(told), remove)
        return [why for why in told.values() if why]

    def _unused(self, names: Collection[str]) -> list[str]:
        return [name for name in names if self._users[name] <= 0]


class HeldApps:
    """The apps of one batch.

    Args:
        pool: Where they are from.
        shards: Their names.
        keep: Whether the extra apps stay.
    """

    def __init__(self, pool: AppPool, shards: Shards, *, keep: bool) -> None:
        self._pool = pool
        self.shards = shards
        self._keep = keep
        self._held = True
        pool.take(shards.others)

    async def let_go(
        self, *, remove: bool, busy: Collection[str] = (), doubted: Collection[str] = (), batch: str = ""
    ) -> tuple[str, ...]:
        """The batch is over; called again, it does nothing.

        Args:
            remove: Whether the apps may be removed: nobody is to take the batch up again.
            busy: Apps with machines that are not confirmed gone.
            doubted: Apps in which Fly has refused a machine: they may be gone by now, whatever was seen.
            batch: The batch's id.

        Returns:
            Why shards stay that were not to be kept, a sentence each.
        """
        if not self._held:
            return ()
        self._held = False
        self._pool.leave(self.shards.others)
        self._pool.forget(doubted)
        if not remove or self._keep or not self.shards.others:
            return ()
        stay = [f"{name} stays: a machine in it is not confirmed gone" for name in self.shards.others if name in busy]
        leaving = [name for name in self.shards.others if name not in busy]
        with anyio.CancelScope(shield=True):
            stay += await self._pool.remove(leaving, batch, _REMOVED_WITHIN_S)
        for why in stay:
            _log.warning("shards: %s", why)
        return tuple(stay)
