"""Entry: no arguments for the supervisor, `ctl VERB` to talk to it."""

from __future__ import annotations

import sys

from .layout import find_layout


def main() -> int:
    """Returns the exit code."""
    layout = find_layout()
    if sys.argv[1:2] == ["ctl"]:
        from .ctl import ctl  # noqa: PLC0415  # either side imports only what it needs

        return ctl(sys.argv[2:], str(layout.run))
    if sys.argv[1:]:
        # For the bootstrap that was here before us, whose last answer did not arrive: we are all here.
        print('{"guest_bytes": -1}')
        return 0
    from .supervisor import supervise  # noqa: PLC0415

    return supervise(layout)
