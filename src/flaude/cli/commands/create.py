"""`flaude app create`: the Fly app that the machines live in."""

from __future__ import annotations

from flaude._model.placement import Shards
from flaude._providers.fly.apps import ensure_app
from flaude.cli.options import Whole


async def create(name: str, /, *, org: str = "personal", shards: Whole = 1) -> int:
    """Make a Fly app for the machines, with a private network of its own; one that is there already is fine.

    The token must be allowed to: that of `fly auth login`, or an org token.

        flaude app create my-app
        flaude app create my-app --org my-company
        flaude app create my-app --shards 8

    Parameters
    ----------
    name
        The app's name; names are unique over all of Fly.
    org
        Slug of the organisation to make it in.
    shards
        Also the apps beside it that `flaude run --shards` spreads a batch over: my-app-2, my-app-3 and so on.
    """
    made = await ensure_app(name, org=org, shards=shards)
    print(f"{made.name} is there; its machines have the network {made.network or 'default'}")
    for shard in Shards(name, shards).others:
        print(f"{shard} is there, as a shard of {made.name} with a network of its own")
    return 0
