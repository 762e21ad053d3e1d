"""The command `flaude` whose live probe is short and asks nothing of the internet."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from tests.support.blocking_detector import detecting  # noqa: E402
from tests.support.command_program import tell_and_end  # noqa: E402

import flaude.cli.checks.live_probe  # noqa: E402
from flaude._providers.fly.probe.plan import Plan  # noqa: E402
from flaude.cli import main  # noqa: E402

_SHORT = functools.partial(
    Plan, longest=((2.0, 3),), stop_s=1.0, parallel_s=2.0, settle_s=0.0, then_s=0.2, egress=("127.0.0.1", 9)
)

if __name__ == "__main__":
    vars(flaude.cli.checks.live_probe)["Plan"] = _SHORT
    with detecting(tell_and_end):
        main()
