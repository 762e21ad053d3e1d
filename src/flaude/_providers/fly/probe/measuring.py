"""What answers of Fly say about Fly. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flaude._providers.fly.exec_limits import REJECTION

Found = Mapping[str, Any]
"""What was measured, as JSON."""

ALL_BYTES = bytes(range(256))
LONGEST_TEXT = 300

_TELLING_HEADERS = re.compile(r"retry-after|.*rate-?limit.*", re.IGNORECASE)


@dataclass(frozen=True)
class Answered:
    """An answer, with what it took.

    Attributes:
        status: HTTP status; 0 when no answer came.
        text: The body.
        headers: Of HTTP.
        seconds: From asking to the end of the answer.
    """

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether Fly did what it was asked."""
        return 200 <= self.status < 300  # HTTP

    @property
    def body(self) -> Any:
        """Its JSON; None when it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    @property
    def fields(self) -> Found:
        """Its JSON object; an empty one when it is none."""
        body = self.body
        return body if isinstance(body, dict) else {}

    @property
    def stdout(self) -> str:
        """What a command has printed."""
        return str(self.fields.get("stdout") or "")

    @property
    def stderr(self) -> str:
        """The same, of its errors."""
        return str(self.fields.get("stderr") or "")

    @property
    def exit_code(self) -> int:
        """A command's exit code; Go leaves a zero out."""
        code = self.fields.get("exit_code")
        return code if isinstance(code, int) else 0

    @property
    def rejected(self) -> bool:
        """Whether the init inside the machine did not run the command."""
        return any(text.lstrip().startswith(REJECTION) for text in (self.stdout, self.stderr))

    @property
    def ran(self) -> bool:
        """Whether a command was run."""
        return self.ok and isinstance(self.body, dict) and not self.rejected

    @property
    def refuses_timeout(self) -> bool:
        """Whether a `timeout` was too long for Fly, seen as `timeout must not exceed 60 seconds`; a 400 may be more."""
        return self.status == 400 and "timeout" in self.text.lower()  # HTTP

    @property
    def told(self) -> str:
        """What it says, in a few words."""
        text = self.text.strip()[:LONGEST_TEXT]
        return f"{self.status} {text}".strip() if self.status else f"no answer: {text}"


def exec_seen(answer: Answered) -> dict[str, Any]:
    """An exec's answer in short: status, exit code, and in which stream which text stands."""
    found: dict[str, Any] = {"status": answer.status}
    if not answer.ok:
        return {**found, "text": answer.text.strip()[:LONGEST_TEXT]}
    found |= {name: answer.fields[name] for name in ("exit_code", "exit_signal") if name in answer.fields}
    for stream, text in (("stdout", answer.stdout), ("stderr", answer.stderr)):
        if text:
            return {**found, "stream": stream, "text": text.strip()[:LONGEST_TEXT]}
    return found


def as_body(value: Found) -> bytes:
    """JSON as the client sends it."""
    return json.dumps(value).encode()


def exec_body(size: int, timeout_s: int) -> dict[str, Any]:
    """The body of an exec that is so many bytes long; its command prints how many words were to fill it."""
    words = [""]
    body = {"command": ["sh", "-c", "echo $#", "sh", *words], "timeout": timeout_s}
    while (left := size - len(as_body(body))) > 0:
        room = _WORD - len(words[-1])
        if room < 1:
            if left <= _QUOTES:
                break
            words.append("")
        else:
            words[-1] += "x" * min(left, room)
        body["command"] = ["sh", "-c", "echo $#", "sh", *words]
    return body


_WORD = 100_000  # Linux takes 128 KiB
_QUOTES = len(', ""')


def words_in(body: Found) -> int:
    """How many words fill it."""
    return len(body["command"]) - 4


def facts(printed: str) -> dict[str, Any]:
    """What the machine has told of itself, in lines `name=value` (`steps.FACTS`)."""
    told = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    found: dict[str, Any] = {
        name: told[name].strip()[:LONGEST_TEXT]
        for name in ("home", "cwd", "path", "python3", "git", "arch", "main")
        if name in told
    }
    for name in ("uid", "main_uid"):
        if told.get(name, "").strip().isdigit():
            found[name] = int(told[name])
    columns = told.get("disk", "").split()  # as POSIX has `df -P`: device, blocks, used, free, …
    if len(columns) > _FREE and columns[1].isdigit() and columns[_FREE].isdigit():
        found |= {"disk_mb": int(columns[1]) // 1024, "free_mb": int(columns[_FREE]) // 1024}
    return found


_FREE = 3


def number(printed: str, name: str) -> float | None:
    """The number of a line `name=…`."""
    match = re.search(rf"^{name}=([0-9]+(?:\.[0-9]+)?)", printed, re.MULTILINE)
    return float(match[1]) if match else None


def bytes_kept(text: str) -> str:
    """How all 256 bytes arrive in an answer: `base64`, `latin-1`, or `no`."""
    if text == ALL_BYTES.decode("latin-1"):
        return "latin-1"
    try:
        return "base64" if base64.b64decode(text.strip(), validate=True) == ALL_BYTES else "no"
    except (binascii.Error, ValueError):
        return "no"


def is_within(one: str, other: str) -> bool | None:
    """Whether a command ran while another one did, by the machine's own clock; None if the clocks do not show it.

    Args:
        one: What the long one has printed: `from=…` and `to=…`.
        other: What the short one has printed: `at=…`.
    """
    begin, end, at = number(one, "from"), number(one, "to"), number(other, "at")
    if begin is None or end is None or at is None or at < begin:
        return None
    return at < end


def is_passing(ended_s: float, asked_s: float) -> bool:
    """Whether a call has failed so soon that this says nothing about how long one may take: a gateway's blip."""
    return ended_s < asked_s / 10


def telling_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that say something about limits."""
    return {name.lower(): value for name, value in headers.items() if _TELLING_HEADERS.fullmatch(name)}


def burst(answers: Sequence[Answered]) -> dict[str, Any]:
    """What several calls at once came to."""
    limited = [answer for answer in answers if answer.status == 429]  # HTTP
    found: dict[str, Any] = {"sent": len(answers), "ok": sum(answer.ran for answer in answers), "limited": len(limited)}
    if limited:
        found |= {"text": limited[0].text.strip()[:LONGEST_TEXT], "headers": telling_headers(limited[0].headers)}
    others = sorted({answer.told for answer in answers if not answer.ran and answer not in limited})
    return {**found, **({"others": others[:3]} if others else {})}


def token_kinds(body: Any) -> dict[str, Any]:
    """What kind the tokens are, without whose: how many, for which apps, of a person, of a machine."""
    tokens = body.get("tokens") if isinstance(body, dict) else None
    known = [token for token in tokens or [] if isinstance(token, dict)]
    return {
        "tokens": len(known),
        "for_apps": sum(bool(token.get("apps")) for token in known),
        "of_people": sum(bool(token.get("user")) for token in known),
        "of_machines": sum(bool(token.get("restricted_to_machine")) for token in known),
    }
