"""`ensure_app`: the Fly app that the machines live in."""

from __future__ import annotations

from flaude.endpoint import FlyEndpoint, client_for
from flaude.errors import NameTakenError, NotFoundError
from flaude.fly import App


async def ensure_app(
    name: str,
    *,
    org: str = "personal",
    network: str | None = None,
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
        token: Fly token; else as for `ConcurrentExecutor`.
        base_url: Machines API; else as for `ConcurrentExecutor`.
        fly: Another Machines API, such as a `flaude.local.LocalFly`.

    Raises:
        NameTakenError: The name belongs to somebody else.
        FlyError: Any other refusal of Fly, or no token.
    """
    async with client_for(fly, token=token, base_url=base_url) as client:
        try:
            return await client.get_app(name)
        except NotFoundError:
            pass
        try:
            await client.create_app(name, org_slug=org, network=network or name)
        except NameTakenError as taken:
            # Somebody may have made it just now, and that may have been us.
            try:
                return await client.get_app(name)
            except NotFoundError:
                raise taken from None
        return await client.get_app(name)
