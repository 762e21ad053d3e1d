"""Apps that Fly has, and does not know everywhere yet. Pure: times go in, and a verdict comes out.

`POST /apps` returns before the rest of Fly's API sees the app: creates in it are answered 404 for some seconds.
Sources: a public client of 2026-08 that saw 404 `app not found` live, and tries for 31 s; speakeasy-api/gram#1728 of
2026-02, which saw `internal: failed to get app: sql: no rows in result set`, and tries again too. Fly's own client
waits for a new app that is a 404 or a 401 (flyctl, WaitForApp), and sends `?wait=true` with its creation (fly-go).
"""

from __future__ import annotations

YOUNG_S = 60.0
"""Seconds for which an app that there is may be a 404: twice as long as anybody is known to have waited."""

_TEXTS = ("app not found", "could not find app")
_NO_ROW = ("failed to get app", "no rows in result set")

_SHORTEST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0


def denies_the_app(status: int, text: str) -> bool:
    """Whether an answer says that there is no app of that name: then nothing was done in it.

    Args:
        status: HTTP status; what has no row in Fly's database may be a 500.
        text: Fly's text in lower case.
    """
    if status in (404, 500) and all(words in text for words in _NO_ROW):
        return True
    return status == 404 and any(words in text for words in _TEXTS)


class Sightings:
    """Which apps there are, as one client has seen; all times are seconds of one clock."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._made: dict[str, float] = {}
        self._unshown: set[str] = set()
        self._denied: dict[tuple[str, str], tuple[float, float]] = {}

    def made(self, app: str, now: float) -> None:
        """Fly has made the app for this client."""
        self.gone(app)
        self._made[app] = self._first[app] = now
        self._unshown.add(app)

    def shown(self, app: str, now: float) -> None:
        """Fly shows the app."""
        self._first.setdefault(app, now)
        self._unshown.discard(app)

    def gone(self, app: str) -> None:
        """There is no such app any more."""
        self._first.pop(app, None)
        self._made.pop(app, None)
        self._unshown.discard(app)
        for key in [key for key in self._denied if key[1] == app]:
            del self._denied[key]

    def answered(self, action: str, app: str) -> None:
        """A call of that sort was answered as in an app that there is."""
        self._denied.pop((action, app), None)

    def denied(self, action: str, app: str, now: float) -> float:
        """A call of that sort was answered as if there were no such app; for how long they have been.

        After a minute in which nobody has tried, it counts anew.
        """
        since, last = self._denied.get((action, app), (now, now))
        since = since if now - last < YOUNG_S else now
        self._denied[action, app] = since, now
        return now - since

    def is_known(self, app: str) -> bool:
        """Whether there is such an app, or was when this client last heard of it."""
        return app in self._first

    def is_young(self, app: str, now: float) -> bool:
        """Whether this client knows it for so short a time that Fly may not know it everywhere."""
        return now - self._first.get(app, float("-inf")) < YOUNG_S

    def may_be_hidden(self, app: str, now: float) -> bool:
        """Whether it was made for this client, and Fly may not show it: it is young, or never was shown."""
        return app in self._unshown or now - self._made.get(app, float("-inf")) < YOUNG_S


def pause_s(denied_s: float) -> float:
    """How long to wait before the next call in an app that has been denied for so long: half as long again."""
    return min(max(denied_s / 2, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
