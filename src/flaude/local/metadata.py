"""A machine's metadata: read and changed without a new version and without a restart."""

from __future__ import annotations

from flaude.local import replies
from flaude.local.replies import Reply
from flaude.local.request import Call


async def get_all(call: Call) -> Reply:
    """`GET .../metadata`."""
    return Reply(200, call.machine.metadata)


async def put(call: Call) -> Reply:
    """`PUT` or `PATCH .../metadata`: both change the keys that are given; null or an empty string removes one."""
    machine, fields = call.machine, call.fields
    given = fields.get("metadata")
    if not isinstance(given, dict) or not all(isinstance(value, str | None) for value in given.values()):
        raise replies.invalid("invalid_argument: metadata must map strings to strings")
    if fields.get("machine_version", machine.instance_id) != machine.instance_id:
        raise replies.stale_metadata()
    if fields.get("updated_at", machine.updated_at) != machine.updated_at:
        raise replies.stale_metadata()
    machine.metadata.update(given)
    for key in [key for key, value in machine.metadata.items() if not value]:
        del machine.metadata[key]
    machine.touch()
    return Reply(204)


async def get(call: Call) -> Reply:
    """`GET .../metadata/KEY`."""
    key = call.params["key"]
    if key not in call.machine.metadata:
        raise replies.metadata_key_not_found(key)
    return Reply(200, {"value": call.machine.metadata[key]})


async def set_(call: Call) -> Reply:
    """`POST .../metadata/KEY`."""
    value = call.fields.get("value")
    if not isinstance(value, str):
        raise replies.invalid("invalid_argument: value must be a string")
    call.machine.metadata[call.params["key"]] = value
    call.machine.touch()
    return Reply(204)


async def delete(call: Call) -> Reply:
    """`DELETE .../metadata/KEY`: one that is not there needs no removing."""
    call.machine.metadata.pop(call.params["key"], None)
    call.machine.touch()
    return Reply(204)
