"""How much of a batch goes into its page: a browser has to show it, so a page has a limit, whatever the batch has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a page; all sizes are in characters of its HTML.

    Attributes:
        page: All patches and transcripts together.
        patch: The patches of one run.
        transcript: The transcript of one run.
        file: One file of a patch.
        binary: One binary file of a patch.
        files: How many files of a patch are named.
        line: One line of a patch.
        prose: A prompt, and an answer.
        words: One text of a transcript: what the model says, a tool takes or answers.
        names: How many artifacts, commits and the like of one run are named.
    """

    page: int = 24_000_000
    patch: int = 1_000_000
    transcript: int = 1_000_000
    file: int = 200_000
    binary: int = 20_000
    files: int = 400
    line: int = 2_000
    prose: int = 40_000
    words: int = 8_000
    names: int = 200


class Allowance:
    """Deals a whole out in fair shares; what one leaves, those after it may use.

    Args:
        whole: What there is.
        shares: How many are to have a share.
    """

    def __init__(self, whole: int, shares: int) -> None:
        self._left = whole
        self._shares = shares

    def share(self) -> int:
        """How much the next one may use, before it says what it has used."""
        return max(self._left, 0) // max(self._shares, 1)

    def used(self, amount: int) -> None:
        """The next one has used so much."""
        self._left -= amount
        self._shares -= 1
