"""`FlyClient`: Fly's Machines API, one pooled client, paced before sending, repeated where it may be."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from pydantic import TypeAdapter

from flaude.errors import (
    FlyError,
    MachineLimitError,
    NameTakenError,
    NoCapacityError,
    NoSuchProgramError,
    NotFoundError,
    NotReadyError,
    PayloadTooLargeError,
    UnreachableError,
)
from flaude.fly import young_apps
from flaude.fly.exec_limits import NO_PROGRAM, REJECTION, TOO_LARGE, ExecLimits
from flaude.fly.http import Answer
from flaude.fly.models import App, AppsPage, ExecResult, Machine, MachinesPage, MachineSummary
from flaude.fly.sending import Call, Heard, Sender
from flaude.fly.young_apps import Sightings, pause_s
from flaude.jitter import jitter

_log = logging.getLogger("flaude.fly")

T = TypeVar("T")

_LIST_LAGS_S = 15.0  # a list is read from a replica, which may lag behind a create
_UNPROCESSABLE = 422
_LONGEST_WAIT_S = 60  # Fly answers 400 beyond it
_LONGEST_TEXT = 500
_MACHINES = TypeAdapter(list[Machine] | None)
_SUMMARIES = TypeAdapter(list[MachineSummary] | None)


class FlyClient:
    """A client of the Machines API; use it as `async with`.

    Args:
        base_url: Where the API is; see `settings.base_url`.
        token: What to send; see `settings.find_token`.
        timeout_s: How long connecting, sending, or waiting for the answer of one request may take, in seconds.
        retry_for_s: How long one call may be repeated before its error is raised, in seconds; 0 for never.
        rate_limits: How many times Fly's published rate limits the account has, which Fly raises on request; `None` for
            an API without any.
        measured: Gives the limits that were measured for a base URL, if any were; called in a worker thread.

    Attributes:
        exec_limits: How much an exec may send and answer, as far as it is known.

    Every method raises an error of the `FlyError` tree when Fly refuses, and `UnreachableError` or `RateLimitedError`
    when all attempts have failed; each names method, path, status and Fly's own text, and none shows the token.

    A call that Fly refuses with 401 is sent again once or twice, with another token if there is one by now: a token
    that was found, and not given, is read again, and of a list with both kinds the OAuth part is tried alone. Of a
    token that has worked before, the error is `TokenExpiredError`; while it is refused, calls fail without being sent,
    except one per second that asks whether it is accepted again.

    An app that Fly shows, or has made for this client, may be a 404 for machines for some seconds: creates and lists in
    it, and its deletion, are tried again for a minute (see `young_apps`), and then are a `NotFoundError`.

    Raises:
        NoTokenError: No token was given and none was found.
        ConfigError: The base URL or the token cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        token: str | None = None,
        timeout_s: float = 30.0,
        retry_for_s: float = 60.0,
        rate_limits: float | None = 1.0,
        measured: Callable[[str], ExecLimits | None] | None = None,
    ) -> None:
        self._sender = Sender(
            base_url=base_url, token=token, timeout_s=timeout_s, retry_for_s=retry_for_s, rate_limits=rate_limits
        )
        self._longest_create_s = retry_for_s + timeout_s
        self._measured = measured
        self.exec_limits = ExecLimits()
        self._sightings = Sightings()

    def __repr__(self) -> str:
        """Where it talks to, without the token."""
        return f"FlyClient({self._sender.base_url!r})"

    async def __aenter__(self) -> Self:
        """Open the pool."""
        await self._sender.__aenter__()
        if self._measured is not None:
            found = await anyio.to_thread.run_sync(self._measured, self.base_url)
            self.exec_limits = found or self.exec_limits
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool."""
        await self._sender.__aexit__(exc_type, exc, traceback)

    @property
    def base_url(self) -> str:
        """Where it talks to, without `/v1`."""
        return self._sender.base_url

    @property
    def share(self) -> float:
        """Which part of its time a call should wait inside Fly: less than 1 while more wait than there are connections.

        Who is not asked for too long takes its controller for dead.
        """
        return self._sender.share

    async def turn(self, call: Call) -> None:
        """Return when Fly's rate limits allow a call that `answer` is to send."""
        await self._sender.turn(call)

    async def answer(self, call: Call) -> Answer:
        """Fly's answer to any call as it comes, whatever its status; once, at once: for who measures what Fly does.

        Raises:
            UnreachableError: There is none.
        """
        return await self._sender.answer(call)

    def without_token(self, text: str) -> str:
        """A text of Fly's, or of a gateway's on the way, without our token."""
        return self._sender.redact(text)

    # --- apps ---

    async def create_app(self, name: str, *, org_slug: str = "personal", network: str | None = None) -> None:
        """Make an app; `network` puts it on a private network of that name.

        Raises:
            NameTakenError: The name belongs to somebody; app names are unique over all of Fly. It may be ours, made
                by an attempt whose answer was lost: `get_app` tells.
        """
        # Fly's OpenAPI document and its Go client call it `name`, its docs call it `app_name`.
        names = {"name": name, "app_name": name}
        body = {**names, "org_slug": org_slug, **({"network": network} if network else {})}
        # There is no app yet that Fly could count it for: all count together. `wait` is what Fly's Go client sends.
        await self._sender.ask(Call("create_app", "", "POST", "/apps", query={"wait": "true"}, body=body), _nothing)
        self._sightings.made(name, anyio.current_time())

    def may_be_hidden(self, app: str) -> bool:
        """Whether this client has made the app, so that it may be there though Fly does not show it.

        For a minute after it was made, and for as long as Fly has never shown it.
        """
        return self._sightings.may_be_hidden(app, anyio.current_time())

    async def get_app(self, name: str) -> App:
        """The app of that name.

        Raises:
            NotFoundError: There is none.
        """
        app = await self._look_at_app(name)
        self._sightings.shown(name, anyio.current_time())
        return app

    async def _look_at_app(self, name: str) -> App:
        return await self._sender.ask(Call("get_app", name, "GET", f"/apps/{_part(name)}"), App.model_validate_json)

    async def list_apps(self, org_slug: str) -> list[App]:
        """All apps of an organisation, in as many calls as Fly has pages (fly-go reads `next_cursor`).

        Raises:
            NotAllowedError: The token is for less than the organisation.
        """
        apps, cursors = list[App](), [""]
        while True:
            query = {"org_slug": org_slug, **({"cursor": cursors[-1]} if cursors[-1] else {})}
            call = Call("list_apps", "", "GET", "/apps", query=query)
            page = await self._sender.ask(call, AppsPage.model_validate_json)
            apps += page.apps
            if not page.next_cursor:
                return apps
            if page.next_cursor in cursors:
                message = "Fly lists the same apps again and again"
                raise UnreachableError(message, method=call.method, path=call.where, status=200)
            cursors.append(page.next_cursor)

    async def count_machines(self, org_slug: str) -> int:
        """How many machines an organisation has in all its apps, stopped ones too; Fly's list lags by minutes.

        Raises:
            NotAllowedError: The token is for less than the organisation.
        """
        count, cursors = 0, [""]
        while True:
            # A page may be short, or empty, with more to come (Fly docs): its cursor alone tells.
            query = {"summary": "true", **({"cursor": cursors[-1]} if cursors[-1] else {})}
            call = Call("list_org_machines", "", "GET", f"/orgs/{_part(org_slug)}/machines", query=query)
            page = await self._sender.ask(call, MachinesPage.model_validate_json)
            count += sum(machine.state != "destroyed" for machine in page.machines)
            if not page.next_cursor or page.next_cursor in cursors:
                return count
            cursors.append(page.next_cursor)

    async def delete_app(self, name: str, *, force: bool = False) -> None:
        """Delete an app; with `force` also when it has machines. An app that is gone already is fine."""
        query = {"force": "true"} if force else {}
        call = Call("delete_app", name, "DELETE", f"/apps/{_part(name)}", query=query)
        while True:
            try:
                await self._sender.ask(call, _nothing)
                break
            except NotFoundError as error:
                try:
                    await self._look_at_app(name)
                except FlyError:
                    break
                await self._bear(call, name, error)
        self._sightings.gone(name)

    async def _in_app(self, app: str, call: Call, read: Callable[[bytes], T]) -> T:
        """Ask for something in an app, and again while the app is a 404 that there is."""
        again = False
        while True:
            await self._sender.turn(call, again=again)
            try:
                answer = await self._sender.send(call, read)
            except NotFoundError as error:
                await self._bear(call, app, error)
                again = True
            else:
                self._sightings.answered(call.action, app)
                return answer

    async def _bear(self, call: Call, app: str, error: NotFoundError) -> None:
        """Return when a call that found no app may be tried again: there is one, and Fly may not know it everywhere.

        Raises:
            NotFoundError: There is none, or Fly has said so for too long.
        """
        if not error.denies_app:
            raise error
        denied_s = self._sightings.denied(call.action, app, anyio.current_time())
        if not self._sightings.is_young(app, anyio.current_time()):
            await self._look_again(app, error)
            if denied_s >= young_apps.YOUNG_S:
                told = f"Fly shows the app {app}, and says for {denied_s:.0f} s that there is none; try again later"
                raise error.meaning(told) from error
        _log.info("app %s is not known everywhere yet: %s", app, error)
        await anyio.sleep(jitter(pause_s(denied_s)))

    async def _look_again(self, app: str, error: NotFoundError) -> None:
        """Ask Fly whether there is such an app, and raise `error` when there is none."""
        known = self._sightings.is_known(app)
        try:
            await self._look_at_app(app)
        except NotFoundError:
            self._sightings.gone(app)
            if known:
                told = f"the app {app} is gone; make it again with flaude.ensure_app(name)"
                raise error.meaning(told) from error
            raise error from None
        except FlyError:
            # No word on it: what was known of it holds.
            if not known:
                raise error from None
        else:
            self._sightings.shown(app, anyio.current_time())

    # --- machines ---

    async def create_machine(
        self,
        app: str,
        *,
        name: str,
        config: Mapping[str, Any],
        region: str = "",
        identity: Mapping[str, str] | None = None,
        on_turn: Callable[[], Awaitable[None]] | None = None,
        heard: Heard | None = None,
    ) -> Machine:
        """Create a machine, once: its name is the idempotency key.

        When an answer is lost or Fly fails, the same create is sent again. If the machine is there by then, Fly
        answers 409 and names it; it is taken as ours when its metadata contains all of `identity`. Once the call has
        been sent it is not cancelled, but seen to its end, for `retry_for_s` + `timeout_s` at most.

        Args:
            app: The machine's app.
            name: The machine's name.
            config: Fly's `fly.MachineConfig`.
            region: Where; empty for Fly's choice.
            identity: The part of its metadata that no other machine has; all of `config`'s when left out.
            on_turn: Called when the rate limit, and other creates, let the call go, just before it is sent; what it
                raises keeps the call from being sent.
            heard: Takes Fly's ids of the requests that were answered, for Fly's support.

        Raises:
            NameTakenError: A living machine that is not ours has this name.
            UnreachableError: Fly did not say whether the machine was created. It may have been.
            FlyError: Any other refusal.
        """
        # The app's secrets are for whoever runs it, and not for an agent.
        body = {"name": name, "config": config, "skip_secrets": True, **({"region": region} if region else {})}
        call = Call("create_machine", app, "POST", _machines(app), body=body, heard=heard)
        identity = identity or config.get("metadata") or {}
        again = False
        # Waiting for its turn, for others, or for a young app may be cancelled. From the first byte sent on it is seen
        # to its end: a create that is cut off halfway leaves a machine whose id nobody knows.
        while True:
            await self._sender.turn(call, again=again)
            async with self._sender.creating:
                if on_turn:
                    await on_turn()
                try:
                    machine = await self._create_within(app, call, name, identity)
                except NotFoundError as error:
                    if error.may_have_been_done:
                        raise
                    no_app = error
                else:
                    self._sightings.answered(call.action, app)
                    return machine
            await self._bear(call, app, no_app)
            again = True

    async def _create_within(self, app: str, call: Call, name: str, metadata: Mapping[str, str]) -> Machine:
        with anyio.move_on_after(self._longest_create_s, shield=True):
            return await self._create_or_adopt(app, call, name, metadata)
        error = UnreachableError(
            f"Fly did not say within {self._longest_create_s:g} s whether it has created machine {name!r}",
            method=call.method,
            path=call.where,
        )
        error.may_have_been_done = True
        raise error

    async def _create_or_adopt(self, app: str, call: Call, name: str, metadata: Mapping[str, str]) -> Machine:
        maybe = False
        while True:
            try:
                return await self._sender.send(call, Machine.model_validate_json)
            except FlyError as error:
                # Whatever is answered now: of the calls before, one may have made the machine.
                maybe = error.may_have_been_done = maybe or error.may_have_been_done
                if maybe and isinstance(error, NotFoundError):
                    await self._bear(call, app, error)
                    await self._sender.turn(call, again=True)
                    continue
                if maybe and _may_mean_ours(error):
                    if (found := await self._found(app, name, metadata)) is not None:
                        return found
                    raise
                if not isinstance(error, NameTakenError):
                    raise
                try:
                    machine = await self._holder(app, name, metadata, error.machine_id)
                except NotFoundError:
                    # A new machine may not be visible yet (Fly, flyctl PR 4618), an old one has just gone: ask again.
                    _log.info("machine %s has the name %r but is not to be found", error.machine_id, name)
                    try:
                        await self._sender.turn(call, again=True)
                    except FlyError as unasked:
                        unasked.may_have_been_done = True
                        raise
                    continue
                except FlyError as unseen:
                    unseen.may_have_been_done = True  # the one that has the name may be ours
                    raise
                if machine is None:
                    if metadata and error.machine_id:
                        # Names are unique: while somebody else has this one, ours cannot have been made.
                        error.may_have_been_done = False
                    raise
                _log.info("machine %s (%s) had been created by a call whose answer was lost", name, machine.id)
                return machine

    async def _found(self, app: str, name: str, metadata: Mapping[str, str]) -> Machine | None:
        """The machine of a create whose answer was lost, looked for before a refusal of the next one is believed."""
        if not metadata:
            return None
        look_until = anyio.current_time() + _LIST_LAGS_S
        while True:
            with suppress(FlyError):
                if (machine := await self._holder(app, name, metadata, None)) is not None:
                    _log.info("machine %s (%s) had been created by a call whose answer was lost", name, machine.id)
                    return machine
            if anyio.current_time() >= look_until:
                return None
            await anyio.sleep(jitter(1.0))

    async def _holder(self, app: str, name: str, metadata: Mapping[str, str], machine_id: str | None) -> Machine | None:
        if not metadata:
            return None
        if machine_id:
            found = [await self.get_machine(app, machine_id)]
        else:
            found = await self.list_machines(app, metadata=metadata)
        for machine in found:
            if machine.name == name and metadata.items() <= machine.metadata.items():
                return machine
        return None

    async def get_machine(self, app: str, machine_id: str) -> Machine:
        """The machine; a destroyed one is still shown for a while.

        Raises:
            NotFoundError: Fly does not know it, or not yet or no longer.
        """
        call = Call("get_machine", machine_id, "GET", _machine(app, machine_id))
        return await self._sender.ask(call, Machine.model_validate_json)

    async def list_machines(
        self,
        app: str,
        *,
        metadata: Mapping[str, str] | None = None,
        state: str = "",
        region: str = "",
        include_deleted: bool = False,
    ) -> list[Machine]:
        """The app's machines that have all of `metadata`. Fly reads a replica: a new machine may not be in it yet."""
        query = {f"metadata.{key}": value for key, value in (metadata or {}).items()}
        query |= {key: value for key, value in (("state", state), ("region", region)) if value}
        if include_deleted:
            query["include_deleted"] = "true"
        call = Call("list_machines", app, "GET", _machines(app), query=query)
        return await self._in_app(app, call, _MACHINES.validate_json) or []

    async def machine_states(
        self, app: str, *, metadata: Mapping[str, str], include_deleted: bool = False
    ) -> dict[str, str]:
        """The state of each of the machines that `list_machines` would list, by its id, in a fraction of its time."""
        query = {f"metadata.{key}": value for key, value in metadata.items()} | {"summary": "true"}
        if include_deleted:
            query["include_deleted"] = "true"
        call = Call("list_machines", app, "GET", _machines(app), query=query)
        found = await self._in_app(app, call, _SUMMARIES.validate_json) or []
        return {machine.id: machine.state for machine in found}

    async def update_machine(self, app: str, machine_id: str, *, config: Mapping[str, Any]) -> Machine:
        """Replace the whole config; a running machine is restarted. Fields left out are wiped. POST, not PUT."""
        call = Call("update_machine", machine_id, "POST", _machine(app, machine_id), body={"config": config})
        return await self._sender.ask(call, Machine.model_validate_json)

    async def start_machine(self, app: str, machine_id: str) -> None:
        """Start a stopped machine; returns before it runs.

        Raises:
            NotReadyError: Its state forbids it.
            NoCapacityError: Its host has no room now; a stopped machine keeps none.
        """
        call = Call("start_machine", machine_id, "POST", _machine(app, machine_id, "start"))
        refusal = await self._sender.ask(call, _start_refusal)
        if refusal is not None:
            message = f"Fly did not start the machine: {refusal}"
            raise NotReadyError(message, method=call.method, path=call.where, status=200, fly_text=refusal)

    async def stop_machine(
        self, app: str, machine_id: str, *, signal: str = "SIGINT", timeout_s: float | None = None
    ) -> None:
        """Send `signal`, and kill after `timeout_s` seconds; returns before it has stopped."""
        body = {"signal": signal, **({"timeout": f"{timeout_s:g}s"} if timeout_s is not None else {})}
        call = Call("stop_machine", machine_id, "POST", _machine(app, machine_id, "stop"), body=body)
        await self._sender.ask(call, _nothing)

    async def wait_machine(self, app: str, machine_id: str, *, state: str, timeout_s: int = _LONGEST_WAIT_S) -> bool:
        """Wait up to `timeout_s` seconds (1 to 60) for a state; whether Fly has named it as reached.

        Raises:
            NotFoundError: The machine is gone, or not visible yet.
        """
        timeout_s = min(max(timeout_s, 1), _LONGEST_WAIT_S)
        query = {"state": state, "timeout": str(timeout_s)}
        path = _machine(app, machine_id, "wait")
        call = Call("wait_machine", machine_id, "GET", path, query=query, takes_s=timeout_s, waits=True)
        try:
            return await self._sender.ask(call, _state) == state
        except UnreachableError as error:
            if error.status == 408:
                return False
            raise

    async def exec_machine(
        self,
        app: str,
        machine_id: str,
        command: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: int = 20,
        retry: bool = False,
        waits: bool = False,
        clean: Callable[[str], str] = str,
    ) -> ExecResult:
        """Run a command inside the machine; a command that fails is no error, look at `exit_code`.

        Args:
            app: The machine's app.
            machine_id: The machine.
            command: Argv.
            stdin: Text for its standard input.
            timeout_s: How long it may take. Fly does not publish a maximum; stay under 25 seconds.
            retry: Whether it may be run again when its answer is lost. Without it only what cannot have been run is
                repeated: a connection that could not be opened, a call over the rate limit.
            waits: Whether the command takes its time because it waits: such calls do not count among those that are
                under way at once, of which there are not too many.
            clean: Takes what must not be told out of what is said when it fails: an error may show what was sent.

        Raises:
            NotReadyError: The machine is not running.
            UnreachableError: No answer; with `status` 408 the command took too long.
        """
        body = {"command": list(command), "timeout": timeout_s, **({"stdin": stdin} if stdin else {})}
        path = _machine(app, machine_id, "exec")
        call = Call(
            "exec_machine",
            machine_id,
            "POST",
            path,
            body=body,
            takes_s=timeout_s,
            waits=waits,
            harmless=retry,
            clean=clean,
        )
        result = await self._sender.ask(call, ExecResult.model_validate_json)
        for text in (result.stdout, result.stderr):
            if text.lstrip().startswith(REJECTION):
                raise _rejection(clean(text.strip()[:_LONGEST_TEXT]), call)
        return result

    async def signal_machine(self, app: str, machine_id: str, signal: str) -> None:
        """Send a signal, such as `SIGUSR1`, to the main process of a machine.

        Raises:
            NotReadyError: It does not run.
        """
        call = Call("signal_machine", machine_id, "POST", _machine(app, machine_id, "signal"), body={"signal": signal})
        await self._sender.ask(call, _nothing)

    async def delete_machine(self, app: str, machine_id: str, *, force: bool = True) -> None:
        """Destroy a machine; with `force` also a running one. One that is gone already is fine.

        "Accepted" is not "gone": read it afterwards.
        """
        query = {"force": "true"} if force else {}
        with suppress(NotFoundError):
            call = Call("delete_machine", machine_id, "DELETE", _machine(app, machine_id), query=query)
            await self._sender.ask(call, _nothing)


def _rejection(text: str, call: Call) -> FlyError:
    """The error that an init means which answers instead of the command; nothing was run."""
    where: dict[str, Any] = {"method": call.method, "path": call.where, "status": 200, "fly_text": text}
    if TOO_LARGE in text:
        return PayloadTooLargeError(f"the machine did not take so large a request: {text}", **where)
    if NO_PROGRAM in text:
        return NoSuchProgramError(f"the machine has no such program: {text}", **where)
    return NotReadyError(f"the machine did not run the command: {text}", **where)


def _may_mean_ours(error: FlyError) -> bool:
    """Whether a refused create may only mean that the one before it has made the machine.

    Not all of Fly's words for a name that is taken are known, and with some of them it does not say by which machine.
    If there is no room, the machine of the earlier create may have taken the last place.
    """
    if isinstance(error, MachineLimitError | NoCapacityError):
        return True
    return error.status == _UNPROCESSABLE or (isinstance(error, NameTakenError) and not error.machine_id)


def _nothing(content: bytes) -> None:
    """For the calls whose status says it all; what is neither empty nor JSON has not come from Fly."""
    if content:
        json.loads(content)


def _state(content: bytes) -> str:
    """The state that a wait has come to; empty when the answer does not name it, as one of a gateway on the way."""
    body: Any = json.loads(content) if content else None
    return str(body.get("state", "")) if isinstance(body, dict) else ""


def _start_refusal(content: bytes) -> str | None:
    """Why a start was refused inside a 200: Fly's Go client (start.go) reads `status` "error" there."""
    body: Any = json.loads(content) if content else None
    if isinstance(body, dict) and body.get("status") == "error":
        return str(body.get("message", ""))
    return None


def _part(name: str) -> str:
    return quote(name, safe="")


def _machines(app: str) -> str:
    return f"/apps/{_part(app)}/machines"


def _machine(app: str, machine_id: str, action: str = "") -> str:
    path = f"{_machines(app)}/{_part(machine_id)}"
    return f"{path}/{action}" if action else path
