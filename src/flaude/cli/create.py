"""`flaude app create`: the Fly app that the machines live in."""

from __future__ import annotations

from flaude.apps import ensure_app


async def create(name: str, /, *, org: str = "personal") -> int:
    """Make a Fly app for the machines, with a private network of its own; one that is there already is fine.

    The token must be allowed to: that of `fly auth login`, or an org token.

        flaude app create my-app
        flaude app create my-app --org my-company

    Parameters
    ----------
    name
        The app's name; names are unique over all of Fly.
    org
        Slug of the organisation to make it in.
    """
    made = await ensure_app(name, org=org)
    print(f"{made.name} is there; its machines have the network {made.network or 'default'}")
    return 0
