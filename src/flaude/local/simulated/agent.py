"""The agent in a simulated machine: the scripted `claude`, as far as it needs neither a disk nor a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from flaude.local import scripted_claude

WORKDIR = "/workspace"

_AT_ONCE = frozenset(
    {
        *("say", "cost", "fail", "api-error", "usage-limit", "max-turns", "max-budget", "exit", "no-result"),
        *("line", "lines", "raw"),
    }
)
_CREDENTIALS = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY")


class SimulatedAgent(scripted_claude.Claude):
    """One session. Its lines are the scripted `claude`'s; to wait it does not block.

    Args:
        argv: The command line, without the program.
        env: Where its credentials are.
        tell: Takes what it prints, a line or several at a time.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], tell: Callable[[bytes], None]) -> None:
        flags = (word.partition("=") for word in argv if word.startswith("--"))
        super().__init__({**{name: value for name, _, value in flags}, "--output-format": "stream-json"})
        self._env = env
        self._tell = tell
        self.result_line: dict[str, Any] | None = None
        self.rate_limit: dict[str, Any] | None = None

    def print(self, content: bytes) -> None:
        """Tell it."""
        self._tell(content)

    def keep(self, value: dict[str, Any]) -> None:
        """Keep what the guest takes note of; there is no disk for a transcript."""
        if value["type"] == "result":
            self.result_line = value
        elif value["type"] == "rate_limit_event":
            self.rate_limit = value["rate_limit_info"]

    async def run(self, prompt: str) -> int:
        """Do what the prompt says; returns the exit code."""
        try:
            await self._run(prompt)
        except SystemExit as ended:
            return int(ended.code or 0)
        except Exception:  # noqa: BLE001  # as a process it would end with a traceback and this code
            return 1
        return 0

    async def _run(self, prompt: str) -> None:
        if not prompt.strip():
            return
        self.init(WORKDIR)
        if not any(self._env.get(name) for name in _CREDENTIALS):
            self.api_error(None, "Not logged in · Please run /login")
        for line in prompt.splitlines():
            if line.startswith("::"):
                verb, _, rest = line[2:].partition(" ")
                await self._do(verb, rest)
        if not self.turns:
            self.say(self.text)
        self.succeed()

    async def _do(self, verb: str, rest: str) -> None:
        match verb:
            case "sleep":
                await anyio.sleep(float(rest))
            case "tick":
                count, seconds = rest.split()
                for number in range(int(count)):
                    await anyio.sleep(float(seconds))
                    self.tick(number)
            case "silent":
                await anyio.sleep_forever()
            case _ if verb in _AT_ONCE:
                self.do(verb, rest)
            case _:
                self.do_fail(f"a simulated machine cannot do this: ::{verb}")
