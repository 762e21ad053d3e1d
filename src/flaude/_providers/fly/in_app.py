"""Calls in an app: one that Fly answers with "no such app" is tried again while there is such an app.

Fly does not know a new app everywhere at once (see `young_apps`). Such an answer says nothing about what is in the app:
taken for "no such machine" it would end a healthy run, or leave a machine that was taken for gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import anyio

from flaude._model.backoff import jitter
from flaude._model.errors import FlyError, NotFoundError, UnreachableError
from flaude._providers.fly import young_apps
from flaude._providers.fly.calls import Call
from flaude._providers.fly.models import App
from flaude._providers.fly.sending import Sender
from flaude._providers.fly.young_apps import Sightings, pause_s

_log = logging.getLogger("flaude.fly")

T = TypeVar("T")


class InApp:
    """Sends the calls in apps of one client, and remembers which apps there are.

    Args:
        sender: Sends them.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._sightings = Sightings()

    def made(self, name: str) -> None:
        """Fly has made the app for this client."""
        self._sightings.made(name, anyio.current_time())

    def may_be_hidden(self, name: str) -> bool:
        """See `FlyClient.may_be_hidden`."""
        return self._sightings.may_be_hidden(name, anyio.current_time())

    async def show(self, name: str) -> App:
        """The app.

        Raises:
            NotFoundError: Fly does not show it.
        """
        app = await self._look(name)
        self._sightings.shown(name, anyio.current_time())
        return app

    async def delete(self, name: str, call: Call) -> None:
        """Delete an app; one that is gone is fine, one that Fly may only not know yet is tried again.

        Raises:
            FlyError: It may still exist.
        """
        while True:
            try:
                await self._sender.ask(call, nothing)
                break
            except NotFoundError as error:
                try:
                    await self._look(name)
                except NotFoundError:
                    if error.may_have_been_done or not self.may_be_hidden(name):
                        break
                await self.bear(name, call, error)
        self._sightings.gone(name)

    async def ask(self, app: str, call: Call, read: Callable[[bytes], T]) -> T:
        """Wait for the call's turn and send it, again while the answer is that there is no such app though there is.

        Raises:
            NotFoundError: There is no such app, or what was asked for is not in it.
            UnreachableError: Fly has denied the app for too long to a call about a machine: no word on the machine.
            FlyError: As `Sender.send`.
        """
        again = False
        while True:
            await self._sender.turn(call, again=again)
            try:
                answer = await self._sender.send(call, read)
            except NotFoundError as error:
                await self.bear(app, call, error)
                again = True
            else:
                self.answered(app, call)
                return answer

    def answered(self, app: str, call: Call) -> None:
        """The call was answered as in an app that exists."""
        self._sightings.answered(call.action, app)

    async def bear(self, app: str, call: Call, error: NotFoundError) -> None:
        """Return when a call that found no app may be tried again: the app exists, and Fly may not know it everywhere.

        Raises:
            NotFoundError: There is no such app, or Fly has said so for too long; or `error` is not about the app.
            UnreachableError: The same for too long, and the call is about a machine.
        """
        if not error.denies_app:
            raise error
        now = anyio.current_time()
        denied_s = self._sightings.denied(call.action, app, now)
        if not self._sightings.is_young(app, now):
            await self._look_again(app, error)
            if denied_s >= young_apps.YOUNG_S:
                told = f"Fly shows the app {app}, and says for {denied_s:.0f} s that there is none; try again later"
                if call.identifier not in (app, ""):
                    message = f"{told}: {error.fly_text}"
                    raise UnreachableError(message, method=call.method, path=call.where, status=error.status) from error
                raise error.meaning(told) from error
        _log.info("app %s is not known everywhere yet: %s", app, error)
        await anyio.sleep(jitter(pause_s(denied_s)))

    async def _look_again(self, app: str, error: NotFoundError) -> None:
        """Ask Fly whether there is such an app, and raise `error` if there is not."""
        known = self._sightings.is_known(app)
        try:
            await self._look(app)
        except NotFoundError:
            self._sightings.gone(app)
            if known:
                told = f"the app {app} is gone; make it again with flaude.ensure_app(name)"
                raise error.meaning(told) from error
            raise error from None
        except FlyError:
            # No answer about it: what was known of it still holds.
            if not known:
                raise error from None
        else:
            self._sightings.shown(app, anyio.current_time())

    async def _look(self, name: str) -> App:
        return await self._sender.ask(Call("get_app", name, "GET", f"/apps/{part(name)}"), App.model_validate_json)


def nothing(content: bytes) -> None:
    """For calls whose status is the whole answer; a body that is neither empty nor JSON has not come from Fly."""
    if content:
        json.loads(content)


def part(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
