"""JSON as the stand-in sends it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: Any) -> bytes:
    """The bytes of a JSON value."""
    return _encode(value).encode()


def encode_machine(shown: Mapping[str, Any]) -> bytes:
    """The same for a machine: the files of its config need no looking for what must be escaped, they are base64."""
    for name in ("config", "incomplete_config"):
        if name in shown and shown[name].get("files"):
            config = {**shown[name]}
            files = b",".join(_encode_file(file) for file in config.pop("files"))
            with_files = b'%s"files":[%s]}' % (_opened(config), files)
            rest = {key: value for key, value in shown.items() if key != name}
            return b'%s"%s":%s}' % (_opened(rest), name.encode(), with_files)
    return encode(shown)


def encode_machines(shown: Sequence[Mapping[str, Any]]) -> bytes:
    """The same for a list of machines."""
    return b"[%s]" % b",".join(map(encode_machine, shown))


def _encode_file(file: Mapping[str, Any]) -> bytes:
    rest = {key: value for key, value in file.items() if key != "raw_value"}
    return b'%s"raw_value":"%s"}' % (_opened(rest), file["raw_value"].encode())


def _opened(value: Mapping[str, Any]) -> bytes:
    """A JSON object to which members can be added."""
    return encode(value)[:-1] + b"," if value else b"{"
