"""How many machines an organisation may have, and how many it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flaude._model.errors import FlyError

if TYPE_CHECKING:
    from flaude._providers.fly.client import FlyClient
    from flaude._providers.fly.models import App

SMALLEST_LIMIT = 20
"""Machines that an organisation may have at the least, in all its apps and stopped ones too.

Fly does not publish the number. 20 was seen by the owner of a new account, 50 is believed to be the usual one; a trial
account may have 10 (Fly docs, "Free trial"). Fly raises it on request.
"""

LIMIT_IN_WORDS = f"an account may have {SMALLEST_LIMIT} to 50 at first (10 on trial), and more on request"


@dataclass(frozen=True)
class Counted:
    """Machines that are there.

    Attributes:
        machines: How many.
        where: In what, for people; it is less than the organisation when the token may see no more.
    """

    machines: int
    where: str


async def count_machines(client: FlyClient, app: App) -> Counted:
    """The machines of an app's organisation, as far as the token may see them and Fly tells them.

    Args:
        client: An open client.
        app: The app, as Fly has shown it.
    """
    organization = app.organization.slug
    if organization:
        try:
            return Counted(await client.count_machines(organization), f"the organisation {organization}")
        except FlyError:  # a deploy token is for one app
            pass
        try:
            apps = await client.list_apps(organization)
        except FlyError:
            pass
        else:
            if apps:
                return Counted(sum(one.machine_count for one in apps), f"{len(apps)} apps of {organization}")
    return Counted(app.machine_count, f"the app {app.name}")
