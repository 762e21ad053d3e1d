"""One machine for one create: its name is the idempotency key, and the machine of a lost answer is adopted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio

from flaude._model.backoff import jitter
from flaude._model.errors import (
    FlyError,
    MachineLimitError,
    NameTakenError,
    NoCapacityError,
    NotFoundError,
    PayloadTooLargeError,
    UnreachableError,
)
from flaude._providers.fly.calls import Call
from flaude._providers.fly.in_app import InApp
from flaude._providers.fly.models import Machine
from flaude._providers.fly.sending import Sender

_log = logging.getLogger("flaude.fly")

_LIST_LAGS_S = 15.0  # a list is read from a replica, which may lag behind a create


class Creating:
    """Creates machines; see `FlyClient.create_machine`.

    Args:
        sender: Sends the creates.
        apps: Knows which apps there are.
        longest_s: Seconds that one create may take once it has been sent.
        get: A machine by its app and ID.
        find: Machines by their app and metadata.
    """

    def __init__(
        self,
        sender: Sender,
        apps: InApp,
        longest_s: float,
        *,
        get: Callable[[str, str], Awaitable[Machine]],
        find: Callable[[str, Mapping[str, str]], Awaitable[list[Machine]]],
    ) -> None:
        self._sender = sender
        self._apps = apps
        self._longest_s = longest_s
        self._get = get
        self._find = find

    async def create(
        self,
        app: str,
        name: str,
        identity: Mapping[str, str],
        call: Call,
        on_turn: Callable[[], Awaitable[None]] | None,
        *,
        unsure: bool = False,
    ) -> Machine:
        """The machine; see `FlyClient.create_machine` for what is raised.

        Waiting for its turn, for others, or for a young app may be cancelled. From the first byte sent on it runs to
        its end: a create that is cut off halfway leaves a machine whose ID nobody knows.
        """
        again = False
        while True:
            await self._sender.turn(call, again=again)
            async with self._sender.creating:
                if on_turn:
                    await on_turn()
                try:
                    machine = await self._within(app, name, identity, call, unsure=unsure)
                except NotFoundError as error:
                    if error.may_have_been_done:
                        raise
                    no_app = error
                else:
                    self._apps.answered(app, call)
                    return machine
            await self._apps.bear(app, call, no_app)
            again = True

    async def _within(self, app: str, name: str, identity: Mapping[str, str], call: Call, *, unsure: bool) -> Machine:
        with anyio.move_on_after(self._longest_s, shield=True):
            return await self._create_or_adopt(app, name, identity, call, maybe=unsure)
        error = UnreachableError(
            f"Fly did not say within {self._longest_s:g} s whether it has created machine {name!r}",
            method=call.method,
            path=call.where,
        )
        error.may_have_been_done = True
        raise error

    async def _create_or_adopt(
        self, app: str, name: str, identity: Mapping[str, str], call: Call, *, maybe: bool
    ) -> Machine:
        while True:
            try:
                return await self._sender.send(call, Machine.model_validate_json)
            except FlyError as error:
                # Whatever the answer is now: one of the calls before may have made the machine.
                maybe = error.may_have_been_done = maybe or error.may_have_been_done
                refusal = error
            try:
                machine = await self._adopted(app, name, identity, refusal)
                if machine is not None:
                    _log.info("machine %s (%s) had been created by a call whose answer was lost", name, machine.id)
                    return machine
                if isinstance(refusal, NotFoundError):
                    await self._apps.bear(app, call, refusal)
                else:
                    _log.info("the machine with the name %r is not to be found", name)
                await self._sender.turn(call, again=True)
            except FlyError as error:
                error.may_have_been_done = error.may_have_been_done or (maybe and error is not refusal)
                raise

    async def _adopted(self, app: str, name: str, identity: Mapping[str, str], refusal: FlyError) -> Machine | None:
        """The machine that explains a refused create; None if the create is to be sent again.

        Raises:
            FlyError: The refusal, which says in `may_have_been_done` whether there may be a machine all the same.
        """
        if isinstance(refusal, NotFoundError) and refusal.may_have_been_done:
            return None
        if refusal.may_have_been_done and _may_mean_ours(refusal):
            if (found := await self._found(app, name, identity)) is not None:
                return found
            raise refusal
        if not isinstance(refusal, NameTakenError):
            raise refusal
        try:
            machine = await self._holder(app, name, identity, refusal.machine_id)
        except NotFoundError:
            # A new machine may not be visible yet (Fly, flyctl PR 4618), an old one has just gone: ask again.
            return None
        except FlyError as unseen:
            unseen.may_have_been_done = True  # the one that has the name may be ours
            raise
        if machine is None:
            if identity and refusal.machine_id:
                # Names are unique: while somebody else has this one, ours cannot have been made.
                refusal.may_have_been_done = False
            raise refusal
        return machine

    async def _found(self, app: str, name: str, identity: Mapping[str, str]) -> Machine | None:
        """The machine of a create whose answer was lost, looked for before a refusal of the next one is believed."""
        look_until = anyio.current_time() + _LIST_LAGS_S
        while identity:
            with suppress(FlyError):
                if (machine := await self._holder(app, name, identity, None)) is not None:
                    return machine
            if anyio.current_time() >= look_until:
                break
            await anyio.sleep(jitter(1.0))
        return None

    async def _holder(self, app: str, name: str, identity: Mapping[str, str], machine_id: str | None) -> Machine | None:
        if not identity:
            return None
        found = [await self._get(app, machine_id)] if machine_id else await self._find(app, identity)
        for machine in found:
            if machine.name == name and identity.items() <= machine.metadata.items():
                return machine
        return None


def _may_mean_ours(error: FlyError) -> bool:
    """Whether a refused create may only mean that the one before it has made the machine.

    Not all of Fly's words for a name that is taken are known, and with some of them it does not say by which machine.
    If there is no room, the machine of the earlier create may have taken the last place.
    """
    if isinstance(error, MachineLimitError | NoCapacityError):
        return True
    if isinstance(error, PayloadTooLargeError):
        return False  # that is about the call alone, which may be sent again in another size
    return error.status == 422 or (isinstance(error, NameTakenError) and not error.machine_id)
