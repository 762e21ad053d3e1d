"""What all journals agree on; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flaude._model.errors import BatchHeldError, JournalError, LeaseLostError, NoSuchBatchError
from flaude.journal.entries import LeaseOwner

_NAMED = 5
"""How many batches an error names."""


def utc_now() -> datetime:
    """The wall clock: processes that know nothing of each other compare leases by it."""
    return datetime.now(UTC)


def to_text(value: object) -> str:
    """JSON, in ASCII: it keeps what no UTF-8 text may hold, such as half of a surrogate pair.

    Raises:
        JournalError: It is not JSON.
    """
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"journal: this cannot be kept, for it is no JSON: {error}") from error


def from_text(text: str) -> Any:
    """What `to_text` was given.

    Raises:
        JournalError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"journal: holds what is no JSON: {error}") from error


def parts_of(name: str) -> tuple[str, ...]:
    """The folders of a file's name, and its last part.

    Raises:
        JournalError: It would lead out of the batch's folder, or names nothing.
    """
    parts = tuple(name.split("/"))
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise JournalError(f"journal: {name!r} is no name of a file; use names with '/' between them")
    return parts


def choose(newest_first: Sequence[str], id_: str) -> str:
    """The batch that `id_` means: a whole id, how one alone begins, or `last`.

    Raises:
        NoSuchBatchError: There is none, or several begin like that.
    """
    if id_ in newest_first:
        return id_
    if not newest_first:
        raise NoSuchBatchError("the journal has no batches yet")
    if id_ == "last":
        return newest_first[0]
    found = [known for known in newest_first if id_ and known.startswith(id_)]
    if not found:
        raise no_such_batch(id_)
    if len(found) > 1:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise NoSuchBatchError(f"batch {id_!r}: may be {', '.join(found[:_NAMED])}{more}; write more of its id")
    return found[0]


def no_such_batch(id_: str) -> NoSuchBatchError:
    """The error for an unknown batch."""
    return NoSuchBatchError(f"batch {id_!r}: not in the journal; `flaude ps --all` lists them")


def no_such_run(batch: str, index: int) -> JournalError:
    """The error for a note on a run that the batch does not have."""
    return JournalError(f"batch {batch!r} has no run {index}")


def there_already(batch: str) -> JournalError:
    """The error for a second batch of the same id."""
    return JournalError(f"batch {batch!r} is in the journal already")


def is_held(batch: str, holder: LeaseOwner, until: datetime) -> BatchHeldError:
    """The error for a batch that is another's."""
    return BatchHeldError(
        f"batch {batch!r}: process {holder.pid} on {holder.host} carries it out; its word holds until "
        f"{until.isoformat(timespec='seconds')}. Wait for it, or end it"
    )


def is_lost(batch: str) -> LeaseLostError:
    """The error for a write by a process that does not hold the batch any more."""
    return LeaseLostError(f"batch {batch!r}: is not held by this process any more; another one may have taken it over")


def not_open() -> JournalError:
    """The error for a use outside of `async with`."""
    return JournalError("journal: is not open; use it as `async with`")
