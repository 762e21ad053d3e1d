"""The `claude` of the docs' machines: the scripted one, which has something to do for prompts without `::` lines.

It notes the prompt in `NOTES.md` and says so, unless `SCRIPTS` has something better. Runs inside of the machine.
"""

import os
import sys
import tempfile
from pathlib import Path

SCRIPTS = {
    "Write a report": "::write report/index.html <p>all</p>\n::write run.log ran\n::cost 0.31\n::say It is there.",
    "Review the whole": "::sleep 2\n::cost 0.4\n::say It took a while.",
    "fails on purpose": "::cost 0.02\n::fail There is no module of that name.",
}


def main() -> None:
    """Go on as the scripted `claude`."""
    if "--version" not in sys.argv:
        prompt = sys.stdin.read()
        first = next(iter(prompt.splitlines()), "")
        script = next((script for words, script in SCRIPTS.items() if words in prompt), None)
        script = script or f"::append NOTES.md {first}\n::cost 0.12\n::say Noted: {first}"
        with tempfile.TemporaryFile() as file:
            file.write((prompt if "\n::" in f"\n{prompt}" else f"{prompt}\n{script}").encode())
            file.seek(0)
            os.dup2(file.fileno(), 0)
    script = str(Path(__file__).with_name("scripted_claude.py"))
    os.execv(sys.executable, [sys.executable, "-IS", script, *sys.argv[1:]])  # noqa: S606  # ours


if __name__ == "__main__":
    main()
