"""The apps that a batch is spread over: what they are called, and which attempt is in which. Pure.

Fly makes one machine a second in an app. `my-app` with three shards is `my-app`, `my-app-2` and `my-app-3`, and takes
three a second.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass

from flaude._model.errors import ConfigError
from flaude._model.names import LONGEST_NAME, NAME_IN_WORDS, is_name

MOST_SHARDS = 64
_MARK = "flaude-shard-"


@dataclass(frozen=True)
class Shards:
    """An app and those beside it.

    Attributes:
        app: The first one.
        count: How many there are, the first one too.
    """

    app: str
    count: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the first one first."""
        return self.app, *self.others

    @property
    def others(self) -> tuple[str, ...]:
        """The extra apps: all but the first."""
        return tuple(f"{self.app}-{number}" for number in range(2, self.count + 1))

    def of(self, batch: str, index: int, attempt: int) -> str:
        """The app of an attempt: any controller finds it without asking, and another attempt is in another app.

        Neighbours are in different apps. Batches begin in different ones, so that many small ones are spread as well.

        Args:
            batch: The batch's id.
            index: The run's place in it, from 0.
            attempt: The attempt's number, from 1.
        """
        return self.names[(zlib.crc32(batch.encode()) + index + attempt - 1) % self.count]


def check_shards(app: str, count: int, keep: bool = True) -> None:
    """Whether a batch can be spread like that.

    Args:
        app: The first app's name.
        count: How many apps.
        keep: Whether the extra apps are to stay when the batch has ended.

    Raises:
        ConfigError: It cannot.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_SHARDS:
        raise ConfigError(f"shards: give a number from 1 to {MOST_SHARDS}, not {count!r}")
    if not isinstance(keep, bool):
        raise ConfigError(f"keep_shards: give True or False, not {keep!r}")
    last = Shards(app, count).names[-1]
    if len(last) > LONGEST_NAME:
        raise ConfigError(
            f"shards: the last one would be {last}, which is longer than Fly's {LONGEST_NAME} characters; "
            "take an app with a shorter name"
        )


def is_shard_name(app: str, name: str) -> bool:
    """Whether one of `app`'s shards may be called like that."""
    number = re.fullmatch(re.escape(app) + "-([1-9][0-9]?)", name)
    return number is not None and 2 <= int(number[1]) <= MOST_SHARDS  # noqa: PLR2004  # the first one has no number


def shard_network(name: str) -> str:
    """The private network that a shard is made on, and known by: no app that is on another one is a shard.

    Fly takes letters, digits and dashes, the first one a letter. How long one may be is not documented.
    """
    network = _MARK + name
    return network if len(network) <= LONGEST_NAME else _MARK + hashlib.sha256(name.encode()).hexdigest()[:40]


def own_network(name: str) -> str:
    """The private network of any other app that we make: named like the app, where that may be a network's name."""
    return name if name[:1].isalpha() else f"app-{name}"


def check_app_name(app_name: str) -> None:
    """Whether Fly can have an app of that name.

    Raises:
        ConfigError: It cannot.
    """
    if not is_name(app_name):
        raise ConfigError(f"app_name: {app_name!r} is not a valid app name; use {NAME_IN_WORDS}")
