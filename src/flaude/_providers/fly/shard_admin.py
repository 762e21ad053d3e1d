"""Making apps, and finding and removing shards: each a few calls to Fly, nothing remembered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio

from flaude._model.backoff import jitter
from flaude._model.errors import (
    FlyError,
    InvalidRequestError,
    NameTakenError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    TokenExpiredError,
)
from flaude._model.placement import Shards, is_shard_name, shard_network
from flaude._providers.fly import young_apps
from flaude._providers.fly.diagnosis import GONE
from flaude._providers.fly.young_apps import pause_s

if TYPE_CHECKING:
    from flaude._providers.fly import App, FlyClient

_FORBIDDEN = 403
_LIST_LAGS_S = 15.0

T = TypeVar("T")


async def make_app(fly: FlyClient, name: str, *, org: str, network: str) -> App:
    """Make an app, and wait until it can be read.

    Raises:
        NameTakenError: Somebody else has the name.
        NotFoundError: Fly has made it, and never shows it.
        FlyError: Any other refusal.
    """
    try:
        await fly.create_app(name, org_slug=org, network=network)
    except NameTakenError as taken:
        # Somebody may have made it just now, and that may have been us, in an attempt that was not answered.
        try:
            return await _known(fly, name, young_apps.YOUNG_S if taken.may_have_been_done else 0.0)
        except TokenExpiredError:
            raise
        except (NotAllowedError, NotFoundError):
            raise taken from None
    try:
        return await _known(fly, name, young_apps.YOUNG_S)
    except TokenExpiredError:
        raise
    except (NotAllowedError, NotFoundError) as error:
        if error.status == _FORBIDDEN:
            raise
        told = f"Fly has made the app {name}, and does not show it within {young_apps.YOUNG_S:g} s; try again later"
        raise error.meaning(told) from error


async def _known(fly: FlyClient, name: str, within_s: float) -> App:
    """The app; one that is new is a 404 or a 401 until it is known everywhere (see `young_apps`)."""
    began = anyio.current_time()
    while True:
        try:
            return await fly.get_app(name)
        except TokenExpiredError:
            raise
        except (NotAllowedError, NotFoundError) as error:
            waited_s = anyio.current_time() - began
            if error.status == _FORBIDDEN or waited_s >= within_s:
                raise
        await anyio.sleep(jitter(pause_s(waited_s)))


async def make_shard(fly: FlyClient, name: str, org: str) -> App:
    """The shard of that name, made when it is not there.

    Raises:
        NameTakenError: Another app has the name.
        NotAllowedError: The token may not see it, or not make it.
        FlyError: Any other refusal.
    """
    app = await find_shard(fly, name)
    if app is not None:
        return app
    try:
        app = await make_app(fly, name, org=org, network=shard_network(name))
    except NameTakenError as error:
        raise error.meaning(_taken(name)) from error
    except TokenExpiredError:
        raise
    except NotAllowedError as error:
        if error.method != "POST":
            raise  # it is made, and may not be read
        told = (
            f"shards: {name} is not there, and the token may not make it; give an org token (`fly tokens create org`), "
            "or have somebody make the shards who may (`flaude app create NAME --shards N`)"
        )
        raise error.meaning(told) from error
    except InvalidRequestError as error:
        raise error.meaning(f"shards: {name} could not be made in the organisation {org}") from error
    return _checked(app)


async def find_shard(fly: FlyClient, name: str) -> App | None:
    """The shard of that name; `None` when there is no such app.

    Raises:
        NameTakenError: An app has the name that is no shard.
        NotAllowedError: The token may not see it.
        FlyError: Any other refusal.
    """
    try:
        return _checked(await fly.get_app(name))
    except NotFoundError:
        return None
    except TokenExpiredError:
        raise
    except NotAllowedError as error:
        told = (
            f"shards: the token may not see {name}: it is somebody else's (names are unique over all of Fly; take "
            "another app_name), or the token is for another app alone (give an org token, `fly tokens create org`)"
        )
        raise error.meaning(told) from error


def _checked(app: App) -> App:
    if not is_shard(app):
        raise NameTakenError(
            f"shards: there is an app {app.name} that flaude did not make as a shard (its network is "
            f"{app.network or 'not told'}, not {shard_network(app.name)}): agents in it would have its secrets, and "
            "reach the apps of its network; take another app_name, or delete that app if nobody needs it"
        )
    return app


def _taken(name: str) -> str:
    return f"shards: somebody else has an app {name}, and names are unique over all of Fly; take another app_name"


def is_shard(app: App) -> bool:
    """Whether flaude has made it as a shard: then it is on the network of one."""
    return app.network == shard_network(app.name)


async def side_by_side(names: Collection[str], call: Callable[[str], Awaitable[T]]) -> dict[str, T | FlyError]:
    """What `call` returns for each name, or the error of Fly's that it raises; none ends the others."""
    results: dict[str, T | FlyError] = {}

    async def one(name: str) -> None:
        try:
            results[name] = await call(name)
        except FlyError as error:
            results[name] = error

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(one, name)
    return {name: results[name] for name in names}


async def make_shards(fly: FlyClient, shards: Shards, org: str) -> None:
    """Create the extra apps that are missing, all at the same time.

    Raises:
        FlyError: As `make_shard`, of the first one that could not be had; the others are there all the same.
    """
    for made in (await side_by_side(shards.others, lambda name: make_shard(fly, name, org))).values():
        if isinstance(made, FlyError):
            raise made


async def list_shards(fly: FlyClient, app: App) -> list[str]:
    """The names of all shards of an app, whoever made them: its organisation's apps are looked through.

    Raises:
        FlyError: The token may not list them, or Fly does not answer.
    """
    found = await fly.list_apps(app.organization.slug or "personal")
    names = [one.name for one in found if is_shard_name(app.name, one.name) and is_shard(one)]
    return sorted(names, key=lambda name: int(name.rpartition("-")[2]))


async def remove_shard(fly: FlyClient, name: str, *, batch: str = "") -> str:
    """Delete a shard that has no machines; never by force, and never another app.

    Args:
        fly: The client.
        name: Its name.
        batch: The id of a batch whose machines there are known to be gone: lists lag, and may still have them.

    Returns:
        Why it stays, in a sentence; empty when it is gone.
    """
    try:
        return await _remove_shard(fly, name, batch)
    except FlyError as error:
        return f"{name} stays: {error}"


async def _remove_shard(fly: FlyClient, name: str, batch: str) -> str:
    try:
        app = await fly.get_app(name)
    except (NotAllowedError, NotFoundError) as error:
        if error.status != _FORBIDDEN and fly.may_be_hidden(name):
            # Ours, and without machines: nobody makes any in an app that Fly does not show.
            await fly.delete_app(name)
        elif isinstance(error, NotAllowedError):
            raise
        return ""
    if not is_shard(app):
        return f"{name} stays: flaude did not make it as a shard (its network is {app.network or 'not told'})"
    ends = anyio.current_time() + _LIST_LAGS_S
    try:
        while told := await _delete_if_empty(fly, name, batch):
            if anyio.current_time() >= ends or not told.is_transient:
                return f"{name} stays: {told.why}"
            await anyio.sleep(jitter(1.0))
    except NotFoundError as error:
        # Of its list: it has gone meanwhile, unless Fly still shows it.
        with suppress(NotFoundError):
            await fly.get_app(name)
            return f"{name} stays: {error}"
    return ""


@dataclass(frozen=True)
class _Refusal:
    """Why an app is not deleted, and whether that may be over soon."""

    why: str
    is_transient: bool


async def _delete_if_empty(fly: FlyClient, name: str, batch: str) -> _Refusal | None:
    machines = [one for one in await fly.list_machines(name) if one.state != GONE]
    if machines:
        is_transient = all(one.metadata.get("flaude_batch") == batch for one in machines)
        return _Refusal(f"it has {len(machines)} machine{'s' if len(machines) > 1 else ''}", is_transient)
    try:
        await fly.delete_app(name)
    except NotReadyError as error:
        return _Refusal(f"Fly does not delete it: {error.fly_text or error}", is_transient=True)
    return None
