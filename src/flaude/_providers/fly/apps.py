"""`ensure_app` and `remove_shards`: the Fly apps that the machines live in."""

from __future__ import annotations

from flaude._model.errors import NotFoundError
from flaude._model.placement import Shards, check_app_name, check_shards, own_network
from flaude._providers.fly import App
from flaude._providers.fly.connection import FlyEndpoint, client_for
from flaude._providers.fly.shard_admin import list_shards, make_app, make_shards, remove_shard, side_by_side


async def ensure_app(
    name: str,
    *,
    org: str = "personal",
    network: str | None = None,
    shards: int = 1,
    token: str | None = None,
    base_url: str | None = None,
    fly: FlyEndpoint | None = None,
) -> App:
    """The app of that name, created when it does not exist.

    Args:
        name: App name; app names are unique over all of Fly.
        org: Slug of the organisation to create it in; the token must be allowed to (an org token).
        network: Private network of the app; by default one of its own, named like the app, so that its machines can
            reach no other app's.
        shards: With more than 1, also the apps beside it that a `ConcurrentExecutor` with so many `shards` uses: in the
            organisation of the first one, each with a private network of its own.
        token: Fly token; else as for `ConcurrentExecutor`.
        base_url: Machines API; else as for `ConcurrentExecutor`.
        fly: Another Machines API, such as a `flaude.local.LocalFly`.

    Raises:
        ConfigError: `name` is no app's name, or so many `shards` cannot be.
        NameTakenError: The name belongs to somebody else; for a shard, also to an app of yours that is none.
        FlyError: Any other refusal of Fly, or no token.
    """
    check_app_name(name)
    check_shards(name, shards)
    async with client_for(fly, token=token, base_url=base_url) as client:
        try:
            app = await client.get_app(name)
        except NotFoundError:
            app = await make_app(client, name, org=org, network=network or own_network(name))
        await make_shards(client, Shards(name, shards), app.organization.slug or org)
        return app


async def remove_shards(
    app_name: str,
    *,
    token: str | None = None,
    base_url: str | None = None,
    fly: FlyEndpoint | None = None,
) -> dict[str, str]:
    """Delete the shards of an app, `my-app-2`, `my-app-3` and so on; the app itself stays.

    Nothing is forced: a shard that has machines stays. So does an app of such a name that flaude did not make as a
    shard.

    Args:
        app_name: The app.
        token: Fly token; else as for `ConcurrentExecutor`. It must be allowed to list the organisation's apps.
        base_url: Machines API; else as for `ConcurrentExecutor`.
        fly: Another Machines API, such as a `flaude.local.LocalFly`.

    Returns:
        Every shard that there was, with a sentence why it stays; an empty one when it is gone.

    Raises:
        ConfigError: `app_name` is none.
        FlyError: The app or its organisation's apps cannot be read.
    """
    check_app_name(app_name)
    async with client_for(fly, token=token, base_url=base_url) as client:
        names = await list_shards(client, await client.get_app(app_name))
        removed = await side_by_side(names, lambda name: remove_shard(client, name))
        return {name: str(why) for name, why in removed.items()}
