from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.parsed import taken_back

from flaude.report.limits import Allowance
from flaude.report.text import cut, marked, plain

odd_texts = (
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from('<&"\x1b\r\0\u202e\u2028\udcff\ud800'))) | st.text()
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31m", "⟨ESC⟩[31m"),
        ("\r\n", "⟨CR⟩\n"),
        ("\x7f\x85", "⟨DEL⟩⟨U+0085⟩"),
        ("\u202ecod.exe", "⟨U+202E⟩cod.exe"),
        ("a\u200bb\u2028c", "a⟨U+200B⟩b⟨U+2028⟩c"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("\udcff\ud800", "⟨\\xff⟩⟨U+D800⟩"),
        ("👩\u200d👧 نص עברית", "👩\u200d👧 نص עברית"),
    ],
)
def test_what_would_not_be_seen_is_shown(text: str, shown: str) -> None:
    """Odd characters get pictures; letters of any script, and emoji that are joined, stay as they are."""
    assert plain(text) == shown
    assert re.sub("<[^>]*>", "", marked(text)) == shown


@given(odd_texts)
def test_a_marked_text_can_be_taken_back(text: str) -> None:
    """Nothing is lost by it: the script gets the very bytes back that the text was made of."""
    original = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    assert taken_back(marked(original)) == text.encode("utf-8", "surrogatepass")


@given(odd_texts, st.integers(min_value=0, max_value=60))
def test_a_cut_keeps_to_its_limit(text: str, most: int) -> None:
    """What is kept of a text fits, is its beginning, and what is missing is counted; what fits is not cut."""
    kept = cut(text, most)
    assert len(kept.html) <= most
    assert kept.html == marked(text[: len(text) - kept.more])
    assert kept.more == 0 or len(marked(text)) > most


@given(st.lists(st.integers(min_value=0, max_value=50), min_size=1), st.integers(min_value=0, max_value=500))
def test_shares_are_fair(wants: list[int], whole: int) -> None:
    """Nobody gets less than an equal part of the whole, and together they get no more than there is."""
    allowance, given_out = Allowance(whole, len(wants)), 0
    for want in wants:
        share = allowance.share()
        assert share >= whole // len(wants) - 1 or given_out + share <= whole
        assert share >= min(want, whole // len(wants))
        allowance.used(min(want, share))
        given_out += min(want, share)
    assert given_out <= whole
