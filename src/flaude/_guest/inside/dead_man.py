"""The dead-man's switch: the kernel ends the supervisor when its own clocks have not.

The event loop looks at the clocks. If it stands still (a write that never returns, a thread that Python waits for at
its end), nobody would end the machine. An interval timer needs nobody: unless it is set again, SIGALRM ends the
process, and with it the machine.
"""

from __future__ import annotations

import signal

_SHORTEST_S = 0.001  # 0 would switch it off


def hold(seconds: float | None) -> None:
    """Let the process live for so many seconds from now; None for as long as it likes."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whoever started us may have had it ignored
    signal.setitimer(signal.ITIMER_REAL, 0.0 if seconds is None else max(seconds, _SHORTEST_S))
