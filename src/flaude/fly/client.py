"""`FlyClient`: Fly's Machines API, one pooled client, paced before sending, repeated where it may be."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import anyio
import httpx2
import stamina
from pydantic import BaseModel, SecretStr, ValidationError

from flaude._version import __version__
from flaude.errors import (
    FlyError,
    NameTakenError,
    NotFoundError,
    RateLimitedError,
    UnreachableError,
)
from flaude.fly import settings
from flaude.fly.failures import failure
from flaude.fly.models import App, ExecResult, Machine
from flaude.fly.pacing import Pace

_log = logging.getLogger(__name__)

A = TypeVar("A", bound=BaseModel)

_LONGEST_WAIT_S = 60  # Fly answers 400 beyond it
_ANSWER_MARGIN_S = 15.0
_REQUEST_TIMEOUT = 408


class FlyClient:
    """A client of the Machines API; use it as `async with`.

    Args:
        base_url: Where the API is; see `settings.base_url`.
        token: What to send; see `settings.find_token`.
        timeout_s: How long one request may take.
        retry_for_s: How long one call may be repeated before its error is raised.

    Raises:
        NoTokenError: No token was given and none was found.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        token: str | None = None,
        timeout_s: float = 30.0,
        retry_for_s: float = 60.0,
    ) -> None:
        self._base_url = settings.base_url(base_url, os.environ)
        self._token = SecretStr(settings.find_token(token, os.environ))
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._pace = Pace()
        self._http: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        """Where it talks to, without the token."""
        return f"FlyClient({self._base_url!r})"

    async def __aenter__(self) -> Self:
        """Open the pool. Its cookie jar keeps `fly_flaps_affinity`, which pins us to the node that knows our app."""
        self._http = httpx2.AsyncClient(
            base_url=self._base_url,
            headers={
                "Authorization": settings.authorization(self._token.get_secret_value()),
                "User-Agent": f"flaude/{__version__}",
            },
            timeout=self._timeout_s,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        )
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool."""
        if self._http is not None:
            await self._http.aclose()

    # --- apps ---

    async def create_app(self, name: str, *, org_slug: str = "personal", network: str | None = None) -> None:
        """Make an app; `network` puts it on a private network of that name.

        Raises:
            NameTakenError: The name belongs to somebody; app names are unique over all of Fly.
        """
        body = {"name": name, "org_slug": org_slug, **({"network": network} if network else {})}
        await self._call("create_app", name, "POST", "/apps", body=body)

    async def get_app(self, name: str) -> App:
        """The app of that name.

        Raises:
            NotFoundError: There is none.
        """
        return await self._ask(App, "get_app", name, "GET", f"/apps/{_part(name)}")

    async def delete_app(self, name: str, *, force: bool = False) -> None:
        """Delete an app; with `force` also when it has machines. An app that is gone already is fine."""
        query = {"force": "true"} if force else {}
        with suppress(NotFoundError):
            await self._call("delete_app", name, "DELETE", f"/apps/{_part(name)}", query=query)

    # --- machines ---

    async def create_machine(self, app: str, *, name: str, config: Mapping[str, Any], region: str = "") -> Machine:
        """Create a machine, once: its name is the idempotency key.

        When an answer is lost or Fly fails, the same create is sent again. If the machine is there by then, Fly
        answers 409 and names it; it is taken as ours when its metadata contains all of `config`'s. Once the call has
        been sent it is not cancelled, but seen to its end, for `retry_for_s` at most.

        Raises:
            NameTakenError: A living machine that is not ours has this name.
            FlyError: Any other refusal.
        """
        body = {"name": name, "config": config, **({"region": region} if region else {})}
        path = f"/apps/{_part(app)}/machines"
        # Waiting for its turn may be cancelled. From the first byte sent on it is seen to its end: a create that is
        # cut off halfway leaves a machine whose id nobody knows.
        await self._pace.wait("create_machine", app)
        with anyio.CancelScope(shield=True):
            machine = await self._create_or_adopt(app, path, body)
        return machine  # noqa: RET504  # a return inside the scope is one that mypy does not trust

    async def _create_or_adopt(self, app: str, path: str, body: Mapping[str, Any]) -> Machine:
        try:
            return await self._ask(Machine, "create_machine", app, "POST", path, body=body, paced=True)
        except NameTakenError as taken:
            metadata = body["config"].get("metadata") or {}
            ours = await self._holder(app, body["name"], metadata, taken.machine_id)
            if ours is None:
                raise
            _log.info("machine %s (%s) had been created by a call whose answer was lost", ours.name, ours.id)
            return ours

    async def _holder(self, app: str, name: str, metadata: Mapping[str, str], machine_id: str | None) -> Machine | None:
        if not metadata:
            return None
        if machine_id:
            found = [await self.get_machine(app, machine_id)]
        else:
            found = await self.list_machines(app)
        for machine in found:
            if machine.name == name and metadata.items() <= machine.metadata.items():
                return machine
        return None

    async def get_machine(self, app: str, machine_id: str) -> Machine:
        """The machine; a destroyed one is still shown for a while.

        Raises:
            NotFoundError: Fly does not know it, or not yet or no longer.
        """
        return await self._ask(Machine, "get_machine", machine_id, "GET", _machine(app, machine_id))

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
        answer = await self._call("list_machines", app, "GET", f"/apps/{_part(app)}/machines", query=query)
        if not isinstance(answer, list):
            raise UnreachableError("Fly's list of machines is no list", method="GET", path=f"/apps/{app}/machines")
        return [Machine.model_validate(item) for item in answer]

    async def update_machine(self, app: str, machine_id: str, *, config: Mapping[str, Any]) -> Machine:
        """Replace the whole config; a running machine is restarted. Fields left out are wiped. POST, not PUT."""
        body = {"config": config}
        return await self._ask(Machine, "update_machine", machine_id, "POST", _machine(app, machine_id), body=body)

    async def start_machine(self, app: str, machine_id: str) -> None:
        """Start a stopped machine; returns before it runs."""
        await self._call("start_machine", machine_id, "POST", _machine(app, machine_id, "start"))

    async def stop_machine(
        self, app: str, machine_id: str, *, signal: str = "SIGINT", timeout_s: float | None = None
    ) -> None:
        """Send `signal`, and kill after `timeout_s` seconds; returns before it has stopped."""
        body = {"signal": signal, **({"timeout": f"{timeout_s:g}s"} if timeout_s is not None else {})}
        await self._call("stop_machine", machine_id, "POST", _machine(app, machine_id, "stop"), body=body)

    async def wait_machine(self, app: str, machine_id: str, *, state: str, timeout_s: int = _LONGEST_WAIT_S) -> bool:
        """Wait up to `timeout_s` seconds (1 to 60) for a state; whether it was reached.

        Raises:
            NotFoundError: The machine is gone, or not visible yet.
        """
        query = {"state": state, "timeout": str(min(max(timeout_s, 1), _LONGEST_WAIT_S))}
        try:
            await self._call(
                "wait_machine", machine_id, "GET", _machine(app, machine_id, "wait"), query=query, takes_s=timeout_s
            )
        except UnreachableError as error:
            if error.status == _REQUEST_TIMEOUT:
                return False
            raise
        return True

    async def exec_machine(
        self,
        app: str,
        machine_id: str,
        command: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: int = 20,
        retry: bool = False,
    ) -> ExecResult:
        """Run a command inside the machine; a command that fails is no error, look at `exit_code`.

        Args:
            app: The machine's app.
            machine_id: The machine.
            command: Argv.
            stdin: Text for its standard input.
            timeout_s: How long it may take. Fly does not publish a maximum; stay under 25 seconds.
            retry: Whether it may be run again when its answer is lost.

        Raises:
            NotReadyError: The machine is not running.
            UnreachableError: No answer; with `status` 408 the command took too long.
        """
        body = {"command": list(command), "timeout": timeout_s, **({"stdin": stdin} if stdin else {})}
        path = _machine(app, machine_id, "exec")
        return await self._ask(
            ExecResult, "exec_machine", machine_id, "POST", path, body=body, takes_s=timeout_s, repeat=retry
        )

    async def delete_machine(self, app: str, machine_id: str, *, force: bool = True) -> None:
        """Destroy a machine; with `force` also a running one. One that is gone already is fine.

        "Accepted" is not "gone": read it afterwards.
        """
        query = {"force": "true"} if force else {}
        with suppress(NotFoundError):
            await self._call("delete_machine", machine_id, "DELETE", _machine(app, machine_id), query=query)

    # --- sending ---

    async def _ask(self, model: type[A], action: str, identifier: str, method: str, path: str, **options: Any) -> A:
        answer = await self._call(action, identifier, method, path, **options)
        try:
            return model.model_validate(answer)
        except ValidationError:
            raise UnreachableError("Fly's answer is not what its API promises", method=method, path=path) from None

    async def _call(
        self,
        action: str,
        identifier: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        takes_s: float = 0.0,
        repeat: bool = True,
        paced: bool = False,
    ) -> Any:
        """Send until there is an answer that counts; returns its JSON, `None` for an empty one.

        `paced` says that the first attempt has had its turn already.
        """

        def again(error: Exception) -> bool | float:
            return _again(error, repeat=repeat, takes_time=takes_s > 0)

        async for attempt in stamina.retry_context(
            on=again, attempts=None, timeout=self._retry_for_s, wait_initial=0.2, wait_max=5.0, wait_jitter=0.5
        ):
            with attempt:
                if attempt.num > 1 or not paced:
                    await self._pace.wait(action, identifier)
                try:
                    return await self._send(method, path, query or {}, body, takes_s)
                except FlyError as error:
                    _log.info("%s (attempt %d)", error, attempt.num)
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, takes_s: float
    ) -> Any:
        if self._http is None:
            raise RuntimeError("use FlyClient as `async with FlyClient(...) as fly`")
        timeout = httpx2.Timeout(self._timeout_s, read=max(self._timeout_s, takes_s + _ANSWER_MARGIN_S))
        try:
            response = await self._http.request(method, f"/v1{path}", params=query, json=body, timeout=timeout)
        except httpx2.HTTPError as error:
            raise UnreachableError(
                f"no answer from {self._base_url}: {type(error).__name__} {error}".rstrip(), method=method, path=path
            ) from error
        if not response.is_success:
            raise failure(response, path)
        if not response.content:
            return None
        try:
            return json.loads(response.content)
        except ValueError:
            raise UnreachableError(
                "Fly's answer is cut or no JSON", method=method, path=path, status=response.status_code
            ) from None


def _again(error: Exception, *, repeat: bool, takes_time: bool) -> bool | float:
    """Whether to send again; a number is how many seconds Fly wants us to wait before.

    To a call that takes its time, 408 is an answer: the time is over.
    """
    if isinstance(error, RateLimitedError):
        return error.retry_after_s or True
    if isinstance(error, UnreachableError):
        return repeat and not (takes_time and error.status == _REQUEST_TIMEOUT)
    return False


def _part(name: str) -> str:
    return quote(name, safe="")


def _machine(app: str, machine_id: str, action: str = "") -> str:
    path = f"/apps/{_part(app)}/machines/{_part(machine_id)}"
    return f"{path}/{action}" if action else path
