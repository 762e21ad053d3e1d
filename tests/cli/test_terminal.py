"""What a user sees: real programs, real machines, on a pseudo-terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.conftest import TOKEN
from tests.support.terminal_emulator import terminal

from flaude.local import LocalFly


def row_of(tag: str, text: list[str]) -> str:
    """The row of a run, if it is on the screen."""
    return next((line for line in text if re.match(rf". {tag}\b", line)), "")


async def test_the_demo_on_a_terminal(tmp_path: Path) -> None:
    """Rows go through their phases below one another; at the end the summary has taken their place."""
    with terminal(100, 44) as shown:
        async with shown.program("-m", "flaude", "demo", environment={"HOME": str(tmp_path)}) as program:
            seen: dict[str, list[str]] = {}

            def over(text: list[str]) -> bool:
                for tag in ("docs", "doomed"):
                    if (row := row_of(tag, text).split()) and "left" not in row:
                        seen.setdefault(tag, []).append(row[2])
                return any(line.startswith("On Fly:") for line in text)

            await shown.until(over)
            text = await shown.rest()
            assert program.wait() == 0
    assert {"waiting", "working", "done"} <= {*seen["docs"], *seen["doomed"]}
    words = [phase for phase, later in zip(seen["docs"], [*seen["docs"][1:], ""], strict=True) if phase != later]
    order = ["waiting", "creating", "booting", "cloning", "working", "collecting", "destroying", "ending", "done", "ok"]
    assert [order.index(word) for word in words] == sorted(order.index(word) for word in words), words
    assert re.fullmatch(r"✓ docs +ok +0 +[0-9.]+ +\$0\.0123  README\.md", row_of("docs", text))
    assert not any("running" in line or "waiting" in line for line in text), "the table is gone"
    assert any(line.startswith("3/4 succeeded") for line in text)
    assert not shown.screen.cursor.hidden


async def test_ctrl_c_says_what_it_does(local: LocalFly) -> None:
    """^C typed on the terminal: what is being done is said until it is done, then what came of it; it ends in 130."""
    options = {
        "prompts": {"one": "::say begun\n::silent", "two": "::ignore-signals\n::say begun\n::silent"},
        "timeouts": {"grace": 3},
    }
    environment = {
        "FLY_FLAPS_BASE_URL": local.base_url,
        "FLY_API_TOKEN": local.token,
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
    }
    with terminal() as shown:
        async with shown.program(
            "-m", "tests.support.view_program", json.dumps(options), environment=environment
        ) as program:
            await shown.until(lambda text: all("begun" in row_of(tag, text) for tag in ("one", "two")))
            shown.type(b"\x03")
            text = await shown.until(lambda text: any(line.startswith("Ctrl-C: stopping ") for line in text))
            assert "; again: destroy at once; a third time: leave. " in " ".join(text), "it may be broken into lines"
            assert "stopping" in row_of("two", text)
            assert text[text.index("a warning about one") + 1] == "  in two lines"
            assert any("UserWarning: an old way in two" in line for line in text)
            assert not any("^C" in line for line in text)
            text = await shown.rest()
            assert program.wait() == 130
    assert local.alive == 0 and len(local.created) == 2
    assert "cancelled" in row_of("one", text) and "cancelled" in row_of("two", text)
    assert any(line.startswith("Cut short: stopped by SIGINT") for line in text)
    assert not shown.screen.cursor.hidden
