"""Lines that stay at the bottom of a terminal and change there, while other text passes above them.

No alternate screen, and nothing that must be undone at the end: between two frames the cursor is visible, at the
beginning of the line below the last one. Whoever writes there next (the shell after a SIGKILL, the terminal that echoes
`^C`, the last words of a program that leaves) writes on a line of his own. No line wraps, whatever a terminal takes the
width of its characters for: wrapping is off while a frame is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import terminal_size

from flaude.cli.view.columns import Line, rendered, width_of
from flaude.cli.view.terminal_style import Look

_BEGIN = "\x1b[?2026h\x1b[?25l"  # hold what is shown until it is whole, hide the cursor
_END = "\x1b[?25h\x1b[?2026l"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[K", "\x1b[J"


class Painter:
    """Makes the text that turns the last frame into the next one. Pure: what it returns is to be written.

    Args:
        look: How to write.
        reflows: Whether the terminal breaks lines anew that have become too long for it, as all but a few do.
    """

    def __init__(self, look: Look, *, reflows: bool = True) -> None:
        self._look = look
        self._reflows = reflows
        self._widths: list[int] = []
        self._size = terminal_size((0, 0))
        self._last = ""

    def frame(self, lines: Sequence[Line], size: terminal_size, above: Sequence[str] = ()) -> str:
        """What to write to show `lines` instead of those of the last frame; empty when nothing is new.

        Args:
            lines: The frame.
            size: Of the terminal, now.
            above: Lines to print above it, for good.
        """
        whole = "".join(f"{rendered(line, self._look, moves=True)}{_TO_END_OF_LINE}\r\n" for line in lines)
        if whole == self._last and size == self._size and not above:
            return ""
        parts = [_BEGIN, self._back(size)]
        if above:
            parts.append(_TO_END_OF_SCREEN)
            parts += [f"{text}\r\n" for text in above]
        parts += [_NO_WRAP, whole, _TO_END_OF_SCREEN, _WRAP, _END]
        self._last, self._size, self._widths = whole, size, [width_of(line) for line in lines]
        return "".join(parts)

    def erase(self, size: terminal_size) -> str:
        """What to write to remove the last frame."""
        text = f"{self._back(size)}{_TO_END_OF_SCREEN}" if self._widths else ""
        self.forget()
        return text

    def forget(self) -> None:
        """Somebody else has used the terminal meanwhile: the next frame begins where the cursor is."""
        self._widths, self._last = [], ""

    def _back(self, size: terminal_size) -> str:
        """To the beginning of the last frame."""
        rows = len(self._widths)
        if self._reflows and size.columns < self._size.columns:
            rows = sum(max(1, -(-width // size.columns)) for width in self._widths)
        return f"\x1b[{rows}A\r" if rows else "\r"
