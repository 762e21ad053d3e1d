"""`FlyClient`: Fly's Machines API, one pooled client, paced before sending, repeated where it may be."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
from pydantic import TypeAdapter

from flaude._model.errors import (
    FlyError,
    NoSuchProgramError,
    NotFoundError,
    NotReadyError,
    PayloadTooLargeError,
    UnreachableError,
)
from flaude._providers.fly.calls import Call, Heard
from flaude._providers.fly.creating import Creating
from flaude._providers.fly.exec_limits import NO_PROGRAM, REJECTION, TOO_LARGE, ExecLimits
from flaude._providers.fly.in_app import InApp, nothing, part
from flaude._providers.fly.models import App, AppsPage, ExecResult, Machine, MachinesPage, MachineSummary
from flaude._providers.fly.sending import Sender
from flaude._providers.http import Answer

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
        base_url: Where the API is; see `connection.base_url`.
        token: What to send; see `connection.find_token`.
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

    An app that Fly shows, or has made for this client, may be a 404 for some seconds: all calls in it, and its
    deletion, are tried again for a minute (see `in_app`).

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
        self._measured = measured
        self.exec_limits = ExecLimits()
        self._apps = InApp(self._sender)
        self._creating = Creating(
            self._sender, self._apps, retry_for_s + timeout_s, get=self.get_machine, find=self._list_by_metadata
        )

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
        await self._sender.ask(Call("create_app", "", "POST", "/apps", query={"wait": "true"}, body=body), nothing)
        self._apps.made(name)

    def may_be_hidden(self, app: str) -> bool:
        """Whether this client has made the app, so that it may be there though Fly does not show it.

        For a minute after it was made, and for as long as Fly has never shown it.
        """
        return self._apps.may_be_hidden(app)

    async def get_app(self, name: str) -> App:
        """The app of that name.

        Raises:
            NotFoundError: There is none.
        """
        return await self._apps.show(name)

    async def list_apps(self, org_slug: str) -> list[App]:
        """All apps of an organisation, in as many calls as Fly has pages (by its API description).

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
            call = Call("list_org_machines", "", "GET", f"/orgs/{part(org_slug)}/machines", query=query)
            page = await self._sender.ask(call, MachinesPage.model_validate_json)
            count += sum(machine.state != "destroyed" for machine in page.machines)
            if not page.next_cursor or page.next_cursor in cursors:
                return count
            cursors.append(page.next_cursor)

    async def delete_app(self, name: str, *, force: bool = False) -> None:
        """Delete an app; with `force` also when it has machines. An app that is gone already is fine."""
        query = {"force": "true"} if force else {}
        await self._apps.delete(name, Call("delete_app", name, "DELETE", f"/apps/{part(name)}", query=query))

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
        unsure: bool = False,
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
            unsure: Whether a call before this one may have made the machine: then it is looked for before a refusal is
                believed, as it may itself be what there is no more room beside.

        Raises:
            NameTakenError: A living machine that is not ours has this name.
            UnreachableError: Fly did not say whether the machine was created. It may have been.
            FlyError: Any other refusal.
        """
        # The app's secrets are for whoever runs it, and not for an agent.
        body = {"name": name, "config": config, "skip_secrets": True, **({"region": region} if region else {})}
        call = Call("create_machine", app, "POST", _machines(app), body=body, heard=heard)
        identity = identity or config.get("metadata") or {}
        return await self._creating.create(app, name, identity, call, on_turn, unsure=unsure)

    async def get_machine(self, app: str, machine_id: str) -> Machine:
        """The machine; a destroyed one is still shown for a while.

        Raises:
            NotFoundError: Fly does not know it, or not yet or no longer.
        """
        call = Call("get_machine", machine_id, "GET", _machine(app, machine_id))
        return await self._apps.ask(app, call, Machine.model_validate_json)

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
        return await self._apps.ask(app, call, _MACHINES.validate_json) or []

    async def _list_by_metadata(self, app: str, metadata: Mapping[str, str]) -> list[Machine]:
        return await self.list_machines(app, metadata=metadata)

    async def machine_states(
        self, app: str, *, metadata: Mapping[str, str], include_deleted: bool = False
    ) -> dict[str, str]:
        """The state of each of the machines that `list_machines` would list, by its id, in a fraction of its time."""
        query = {f"metadata.{key}": value for key, value in metadata.items()} | {"summary": "true"}
        if include_deleted:
            query["include_deleted"] = "true"
        call = Call("list_machines", app, "GET", _machines(app), query=query)
        found = await self._apps.ask(app, call, _SUMMARIES.validate_json) or []
        return {machine.id: machine.state for machine in found}

    async def update_machine(self, app: str, machine_id: str, *, config: Mapping[str, Any]) -> Machine:
        """Replace the whole config; a running machine is restarted. Fields left out are wiped. POST, not PUT."""
        call = Call("update_machine", machine_id, "POST", _machine(app, machine_id), body={"config": config})
        return await self._apps.ask(app, call, Machine.model_validate_json)

    async def start_machine(self, app: str, machine_id: str) -> None:
        """Start a stopped machine; returns before it runs.

        Raises:
            NotReadyError: Its state forbids it.
            NoCapacityError: Its host has no room now; a stopped machine keeps none.
        """
        call = Call("start_machine", machine_id, "POST", _machine(app, machine_id, "start"))
        refusal = await self._apps.ask(app, call, _start_refusal)
        if refusal is not None:
            message = f"Fly did not start the machine: {refusal}"
            raise NotReadyError(message, method=call.method, path=call.where, status=200, fly_text=refusal)

    async def stop_machine(
        self, app: str, machine_id: str, *, signal: str = "SIGINT", timeout_s: float | None = None
    ) -> None:
        """Send `signal`, and kill after `timeout_s` seconds; returns before it has stopped."""
        body = {"signal": signal, **({"timeout": f"{timeout_s:g}s"} if timeout_s is not None else {})}
        call = Call("stop_machine", machine_id, "POST", _machine(app, machine_id, "stop"), body=body)
        await self._apps.ask(app, call, nothing)

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
            return await self._apps.ask(app, call, _state) == state
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
        result = await self._apps.ask(app, call, ExecResult.model_validate_json)
        for text in (result.stdout, result.stderr):
            if text.lstrip().startswith(REJECTION):
                raise rejection(clean(text.strip()[:_LONGEST_TEXT]), call)
        return result

    async def signal_machine(self, app: str, machine_id: str, signal: str) -> None:
        """Send a signal, such as `SIGUSR1`, to the main process of a machine.

        Raises:
            NotReadyError: It does not run.
        """
        call = Call("signal_machine", machine_id, "POST", _machine(app, machine_id, "signal"), body={"signal": signal})
        await self._apps.ask(app, call, nothing)

    async def delete_machine(self, app: str, machine_id: str, *, force: bool = True) -> None:
        """Destroy a machine; with `force` also a running one. One that is gone already is fine.

        "Accepted" is not "gone": read it afterwards.
        """
        query = {"force": "true"} if force else {}
        with suppress(NotFoundError):
            call = Call("delete_machine", machine_id, "DELETE", _machine(app, machine_id), query=query)
            await self._apps.ask(app, call, nothing)


def rejection(text: str, call: Call) -> FlyError:
    """The error that an init means which answers instead of the command; nothing was run."""
    where: dict[str, Any] = {"method": call.method, "path": call.where, "status": 200, "fly_text": text}
    if TOO_LARGE in text:
        return PayloadTooLargeError(f"the machine did not take so large a request: {text}", **where)
    if NO_PROGRAM.search(text):
        return NoSuchProgramError(f"the machine has no such program: {text}", **where)
    return NotReadyError(f"the machine did not run the command: {text}", **where)


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


def _machines(app: str) -> str:
    return f"/apps/{part(app)}/machines"


def _machine(app: str, machine_id: str, action: str = "") -> str:
    path = f"{_machines(app)}/{part(machine_id)}"
    return f"{path}/{action}" if action else path
