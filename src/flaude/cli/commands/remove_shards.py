"""`flaude app remove-shards`: the apps that batches were spread over, when nobody needs them any more."""

from __future__ import annotations

import sys

from flaude._providers.fly.apps import remove_shards as remove


async def remove_shards(name: str, /) -> int:
    """Delete the extra apps of an app, my-app-2 and so on, except those that still have machines.

    The app itself stays. Extra apps cost nothing while they are empty. Other apps with such names are left alone. The
    token must be allowed to list the organisation's apps. Exit code 1 when a shard stays.

        flaude app remove-shards my-app

    Parameters
    ----------
    name
        The app's name.
    """
    shards = await remove(name)
    for shard, why in shards.items():
        print(why or f"{shard} is removed", file=sys.stderr if why else sys.stdout)
    if not shards:
        print(f"{name} has no shards")
    return 1 if any(shards.values()) else 0
