r"""A stand-in for `claude`: real stream-json lines, and its work is scripted in the prompt. No model, no network.

It takes the flags of Claude Code (measured with 2.1.197) and the prompt on stdin, and needs a token in
CLAUDE_CODE_OAUTH_TOKEN or ANTHROPIC_API_KEY, any will do. Lines of the prompt that begin with `::` say what it does,
in their order; all other lines are for the reader. Without any it says one word and succeeds. In TEXT, `\n`, `\t` and
`\\` stand for a line break, a tab and a backslash.

    ::say TEXT              a message of the model; the last one is the result
    ::write PATH TEXT       writes a file, making its folders (a line break is added when TEXT has none at its end)
    ::append PATH TEXT      adds to a file
    ::shell COMMAND         runs a command by /bin/sh
    ::sleep SECONDS         does nothing for that long
    ::env NAME              says the sha256 of a variable's value, or that it is not set
    ::cost USD              total_cost_usd of the result
    ::fail MESSAGE          ends with an error result, exit code 1
    ::api-error STATUS TEXT ends as Claude Code does when the API answers so
    ::usage-limit SECONDS   ends as Claude Code does at the account's usage limit, which is lifted after that time
    ::max-turns             ends as Claude Code does at --max-turns
    ::max-budget            ends as Claude Code does at --max-budget-usd
    ::exit CODE             exits at once, without a result line
    ::no-result             exits with 0 at the end, without a result line
    ::stay                  prints its result and does not exit
    ::silent                does nothing, for ever
    ::ignore-signals        from here on SIGINT and SIGTERM do nothing
    ::orphan SECONDS        leaves a process behind, in a session of its own and with its output open
    ::line BYTES            prints one line of that many bytes
    ::lines COUNT BYTES     prints that many lines of that many bytes, no two alike
    ::tick COUNT SECONDS    prints that many lines with the time in them, each after so many seconds
    ::raw HEX               prints these bytes
    ::stderr TEXT           prints a line to stderr

As Claude Code does, it ends with 0 and no result on SIGINT, with 143 on SIGTERM, with 0 and no output on an empty
prompt, and with 1 and a text on stderr for a flag that it does not know or when run as root without IS_SANDBOX=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

_VERSION = "2.1.197"
_MODEL = "claude-sonnet-5"
_TURN_USD = 0.0006
# Flags without a value, with one, and with as many as follow (`claude --help`, 2.1.197).
_SWITCHES = [
    "-p",
    "--print",
    "--dangerously-skip-permissions",
    "--verbose",
    "--include-partial-messages",
    "--bare",
    "--fork-session",
    "--strict-mcp-config",
    "--no-session-persistence",
    "--disable-slash-commands",
    "--include-hook-events",
]
_VALUES = [
    "--output-format",
    "--input-format",
    "--model",
    "--fallback-model",
    "--max-turns",
    "--max-budget-usd",
    "--append-system-prompt",
    "--system-prompt",
    "--session-id",
    "--resume",
    "--json-schema",
    "--settings",
    "--effort",
    "--permission-mode",
    "--setting-sources",
]
_LISTS = [
    "--allowedTools",
    "--allowed-tools",
    "--disallowedTools",
    "--disallowed-tools",
    "--mcp-config",
    "--add-dir",
    "--tools",
    "--agents",
    "--betas",
    "--plugin-dir",
]
_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
_TOOLS = ["Task", "Bash", "Edit", "Read", "WebFetch", "WebSearch", "Write"]


class Claude:
    """One session."""

    def __init__(self, options: dict[str, str]) -> None:
        self.session = options.get("--resume") or options.get("--session-id") or str(uuid.uuid4())
        self.model = options.get("--model") or _MODEL
        self.stream = options.get("--output-format", "text") == "stream-json"
        self.options = options
        self.began = time.monotonic()
        self.turns = 0
        self.text = "Done."
        self.cost: float | None = None
        self.ends_with_result = True
        self.stays = False

    def line(self, kind: str, **fields: Any) -> None:
        """Print one line of stream-json, and keep it."""
        value = {"type": kind, **fields, "session_id": self.session, "uuid": str(uuid.uuid4())}
        if self.stream:
            self.print(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self.keep(value)

    def print(self, content: bytes) -> None:
        """Write to stdout."""
        _print(content)

    def keep(self, value: dict[str, Any]) -> None:
        """Add a line to the transcript, when it belongs there."""
        if value["type"] in ("user", "assistant"):
            with self.transcript().open("a") as file:
                file.write(json.dumps(value) + "\n")

    def transcript(self) -> Path:
        """Where Claude Code keeps a session."""
        home = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path(os.environ.get("HOME", "/"), ".claude"))
        folder = home / "projects" / re.sub(r"[^A-Za-z0-9]", "-", str(Path.cwd()))
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.session}.jsonl"

    def init(self, cwd: str) -> None:
        """Say what there is."""
        self.line(
            "system", subtype="init", cwd=cwd, tools=_TOOLS, mcp_servers=[], model=self.model,
            permissionMode="bypassPermissions", slash_commands=[], apiKeySource="none", claude_code_version=_VERSION,
            output_style="default", agents=[], skills=[], plugins=[],
        )  # fmt: skip

    def message(self, content: dict[str, Any], *, stop: str | None = None, error: str = "") -> None:
        """Print a message of the model."""
        tokens = 0 if error else 1
        message = {
            "id": f"msg_{self.turns:02}", "type": "message", "role": "assistant",
            "model": "<synthetic>" if error else self.model, "content": [content],
            "stop_reason": stop, "stop_sequence": "" if error else None,
            "usage": {"input_tokens": 100 * tokens, "output_tokens": tokens,
                      "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        }  # fmt: skip
        self.line("assistant", message=message, parent_tool_use_id=None, **({"error": error} if error else {}))

    def say(self, text: str) -> None:
        """A turn of text."""
        self.turn()
        self.text = text
        self.message({"type": "text", "text": text})

    def use(self, tool: str, arguments: dict[str, Any], output: str, *, failed: bool = False) -> None:
        """A turn that uses a tool, and what the tool said."""
        self.turn()
        use = f"toolu_{self.turns:02}"
        self.message({"type": "tool_use", "id": use, "name": tool, "input": arguments})
        if self.turns == 1:
            self.line("rate_limit_event", rate_limit_info={"status": "allowed", "isUsingOverage": False})
        result = {"tool_use_id": use, "type": "tool_result", "content": output, "is_error": failed}
        self.line("user", message={"role": "user", "content": [result]}, parent_tool_use_id=None)

    def turn(self) -> None:
        """Begin a turn, unless a limit forbids it."""
        if self.turns >= int(self.options.get("--max-turns") or sys.maxsize):
            self.limit("max_turns", f"Reached maximum number of turns ({self.turns})")
        budget = float(self.options.get("--max-budget-usd") or "inf")
        if self.spent() > budget:
            self.limit("max_budget_usd", f"Reached maximum budget (${budget:g})")
        self.turns += 1

    def spent(self) -> float:
        """Dollars so far."""
        return self.turns * _TURN_USD if self.cost is None else self.cost

    def limit(self, kind: str, error: str) -> NoReturn:
        """End at a limit."""
        self.turns += kind == "max_turns"
        more = {"terminal_reason": "max_turns"} if kind == "max_turns" else {}
        self.end(f"error_{kind}", is_error=True, stop_reason="tool_use", errors=[error], **more)

    def api_error(self, status: int | None, text: str, lifted_at: int | None = None) -> NoReturn:
        """End as when the API refuses; without a status: as without credentials; with a time: as at a usage limit."""
        kinds = {None: "authentication_failed", 401: "authentication_failed", 429: "rate_limit", 529: "overloaded"}
        kind = kinds.get(status, "unknown")
        if status == _UNAUTHORIZED:
            for attempt in (1, 2):
                self.line("system", subtype="api_retry", attempt=attempt, max_retries=10, retry_delay_ms=500 * attempt,
                          error_status=status, error=kind)  # fmt: skip
            text = f"Failed to authenticate. API Error: {status} {text}"
        elif status == _TOO_MANY_REQUESTS:
            resets = {} if lifted_at is None else {"resetsAt": lifted_at, "rateLimitType": "five_hour"}
            self.line("rate_limit_event", rate_limit_info={"status": "rejected", **resets, "isUsingOverage": False})
            if lifted_at is None:
                text = f"API Error: Server is temporarily limiting requests (not your usage limit) · {text}"
        elif status is not None:
            text = f"API Error: {status} {text}"
        self.message({"type": "text", "text": text}, stop="stop_sequence", error=kind)
        self.cost = 0
        self.end("success", is_error=True, api_error_status=status, result=text, stop_reason="stop_sequence",
                 terminal_reason="completed", num_turns=1)  # fmt: skip

    def end(self, subtype: str, *, is_error: bool, **fields: Any) -> NoReturn:
        """Print the result and exit."""
        if not self.ends_with_result:
            sys.exit(0)
        lasted, cost = int((time.monotonic() - self.began) * 1000), self.spent()
        tokens = {"input_tokens": 100 * self.turns, "output_tokens": 20 * self.turns}
        usage = {**tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard"}
        used = {"inputTokens": 100 * self.turns, "outputTokens": 20 * self.turns, "cacheReadInputTokens": 0,
                "cacheCreationInputTokens": 0, "webSearchRequests": 0, "costUSD": cost,
                "contextWindow": 200000, "maxOutputTokens": 64000}  # fmt: skip
        result = {"subtype": subtype, "is_error": is_error, "duration_ms": lasted, "duration_api_ms": 0,
                  "num_turns": self.turns, "total_cost_usd": cost, "usage": usage,
                  "modelUsage": {self.model: used} if cost else {}, "permission_denials": [], **fields}  # fmt: skip
        self.line("result", **result)
        if not self.stream:
            answer = {"type": "result", **result, "session_id": self.session}
            as_json = self.options.get("--output-format") == "json"
            self.print((json.dumps(answer) if as_json else str(fields.get("result", ""))).encode() + b"\n")
        while self.stays:
            signal.pause()
        sys.exit(1 if is_error else 0)

    def succeed(self) -> NoReturn:
        """End well."""
        more: dict[str, Any] = {}
        if "--json-schema" in self.options:
            try:
                more["structured_output"] = json.loads(self.text)
            except ValueError:
                more["structured_output"] = None
        self.end("success", is_error=False, api_error_status=None, result=self.text, stop_reason="end_turn",
                 terminal_reason="completed", **more)  # fmt: skip

    def do(self, verb: str, rest: str) -> None:
        """One scripted line."""
        work = getattr(self, f"do_{verb.replace('-', '_')}", None)
        if work is None:
            _refuse(f"scripted claude: no such line: ::{verb}")
        work(rest)

    def do_say(self, rest: str) -> None:
        """`::say TEXT`."""
        self.say(_unescape(rest))

    def do_write(self, rest: str) -> None:
        """`::write PATH TEXT`."""
        self._file("Write", "w", rest)

    def do_append(self, rest: str) -> None:
        """`::append PATH TEXT`."""
        self._file("Edit", "a", rest)

    def _file(self, tool: str, mode: str, rest: str) -> None:
        name, _, text = rest.partition(" ")
        content = _unescape(text)
        content += "" if content.endswith("\n") else "\n"
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(content)
        self.use(tool, {"file_path": str(path.absolute()), "content": content}, f"The file {path} has been updated.")

    def do_shell(self, rest: str) -> None:
        """`::shell COMMAND`."""
        done = subprocess.run(["/bin/sh", "-c", rest], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        output = (done.stdout + done.stderr).decode(errors="replace").rstrip("\n")
        output = f"Exit code {done.returncode}\n{output}" if done.returncode else output
        arguments = {"command": rest, "description": "scripted"}
        self.use("Bash", arguments, output or "(Bash completed with no output)", failed=bool(done.returncode))

    def do_sleep(self, rest: str) -> None:
        """`::sleep SECONDS`."""
        time.sleep(float(rest))

    def do_env(self, rest: str) -> None:
        """`::env NAME`."""
        value = os.environ.get(rest)
        shown = "is not set" if value is None else f"sha256 {hashlib.sha256(value.encode()).hexdigest()}"
        self.say(f"{rest} {shown}")

    def do_cost(self, rest: str) -> None:
        """`::cost USD`."""
        self.cost = float(rest)

    def do_fail(self, rest: str) -> None:
        """`::fail MESSAGE`."""
        self.turn()
        self.end("error_during_execution", is_error=True, errors=[_unescape(rest)])

    def do_api_error(self, rest: str) -> None:
        """`::api-error STATUS TEXT`."""
        status, _, text = rest.partition(" ")
        self.api_error(int(status), text)

    def do_usage_limit(self, rest: str) -> None:
        """`::usage-limit SECONDS`."""
        lifted_at = round(time.time() + float(rest))
        self.api_error(_TOO_MANY_REQUESTS, "You've hit your session limit", lifted_at)

    def do_max_turns(self, _: str) -> None:
        """`::max-turns`."""
        self.limit("max_turns", f"Reached maximum number of turns ({self.turns})")

    def do_max_budget(self, _: str) -> None:
        """`::max-budget`."""
        self.limit("max_budget_usd", f"Reached maximum budget (${self.spent():g})")

    def do_exit(self, rest: str) -> None:
        """`::exit CODE`."""
        sys.exit(int(rest))

    def do_no_result(self, _: str) -> None:
        """`::no-result`."""
        self.ends_with_result = False

    def do_stay(self, _: str) -> None:
        """`::stay`."""
        self.stays = True

    def do_silent(self, _: str) -> None:
        """`::silent`."""
        while True:
            signal.pause()

    def do_ignore_signals(self, _: str) -> None:
        """`::ignore-signals`."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def do_orphan(self, rest: str) -> None:
        """`::orphan SECONDS`."""
        subprocess.Popen(["sleep", rest], stdin=subprocess.DEVNULL, start_new_session=True)

    def do_line(self, rest: str) -> None:
        """`::line BYTES`."""
        self.print(b"x" * int(rest) + b"\n")

    def do_lines(self, rest: str) -> None:
        """`::lines COUNT BYTES`."""
        count, size = map(int, rest.split())
        for _ in range(count):
            self.print(os.urandom(size // 2 + 1).hex()[:size].encode() + b"\n")

    def do_tick(self, rest: str) -> None:
        """`::tick COUNT SECONDS`."""
        count, seconds = rest.split()
        for number in range(int(count)):
            time.sleep(float(seconds))
            self.tick(number)

    def tick(self, number: int) -> None:
        """One line of `::tick`."""
        self.line("tick", number=number, at=time.time())

    def do_raw(self, rest: str) -> None:
        """`::raw HEX`."""
        self.print(bytes.fromhex(rest))

    def do_stderr(self, rest: str) -> None:
        """`::stderr TEXT`."""
        sys.stderr.write(_unescape(rest) + "\n")
        sys.stderr.flush()


def main(arguments: list[str]) -> NoReturn:
    """Run `claude` with these arguments."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    options = _options(arguments)
    root = os.geteuid() == 0 and os.environ.get("IS_SANDBOX") != "1"
    if root and "--dangerously-skip-permissions" in options:
        _refuse("--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons")
    if options.get("--output-format") == "stream-json" and "--verbose" not in options:
        _refuse("Error: When using --print, --output-format=stream-json requires --verbose")
    prompt = options.get("prompt") or sys.stdin.buffer.read().decode(errors="replace")
    if not prompt.strip():
        sys.exit(0)
    claude = Claude(options)
    if "--resume" in options and not claude.transcript().exists():
        _refuse(f"No conversation found with session ID: {claude.session}")
    claude.init(str(Path.cwd()))
    if not (os.environ.get("CLAUDE_CODE_OAUTH_TOKEN") or os.environ.get("ANTHROPIC_API_KEY")):
        claude.api_error(None, "Not logged in · Please run /login")
    for line in prompt.splitlines():
        if line.startswith("::"):
            verb, _, rest = line[2:].partition(" ")
            claude.do(verb, rest)
    if not claude.turns:
        claude.say(claude.text)
    claude.succeed()


def _options(arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    words = list(arguments)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("-"):
            options["prompt"] = name + equals + value
        elif name in ("-v", "--version"):
            _print(f"{_VERSION} (Claude Code)\n".encode())
            sys.exit(0)
        elif name in _SWITCHES:
            options[name] = ""
        elif name in _VALUES or name in _LISTS:
            if not equals and not words:
                _refuse(f"error: option '{name} <value>' argument missing")
            options[name] = value if equals else words.pop(0)
            while name in _LISTS and not equals and words and not words[0].startswith("-"):
                options[name] += " " + words.pop(0)
        else:
            _refuse(f"error: unknown option '{name}'")
    return options


def _unescape(text: str) -> str:
    return re.sub(r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t", "\\": "\\"}[found[1]], text)


def _print(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _refuse(text: str) -> NoReturn:
    sys.stderr.write(text + "\n")
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
