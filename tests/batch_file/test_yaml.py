"""What people get wrong in YAML, and what they are told."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from tests.batch_file.reading import problems, read

from flaude.batch_file import BatchFileError
from flaude.batch_file.problems import Problems
from flaude.batch_file.yaml_nodes import read_yaml


def plain(text: str) -> Any:
    """The values of a text, which must be right."""
    found = Problems()
    node = read_yaml(text, "b.yaml", found)
    found.check()
    return None if node is None else node.plain()


def trouble(text: str) -> str:
    """The one thing that is wrong with a text as YAML."""
    with pytest.raises(BatchFileError) as caught:
        plain(text)
    (problem,) = caught.value.problems
    return str(problem)


MISTAKES = {
    "a colon in a text": ("a:\n  prompt: Fix this: that", "b.yaml:2:19 a text with `: ` in it goes in quotes"),
    "no space after a colon": (
        "app:x\ntasks:\n  - a",
        "b.yaml:2:1 line 1, above, has no space after its colon; write `app",
    ),
    "a tab": ("a:\n\t- b", "b.yaml:2:1 a tab; YAML is indented with spaces"),
    "indented too far": ("a: b\n c: d", "b.yaml:2:2 indented more than line 1"),
    "indented between": ("- a: b\n c: d", "b.yaml:2:2 the indentation fits to nothing above"),
    "indented too little": ("a: |\n  x\n y", "b.yaml:3:2 this line belongs to no name; indent it more"),
    "a dash without a space": ("a:\n  - b\n  -c: d", "b.yaml:3:3 a list's item begins with a dash and a space"),
    "a list on the line of its name": ("a: - b", "b.yaml:1:4 a list begins on a line of its own"),
    "a list beside names": ("a: b\n- c", "b.yaml:2:1 a list's item where a name is expected"),
    "a text that begins with *": (
        "a: *all* of it",
        "b.yaml:1:4 `*all*` is an alias of nothing; a text that begins with *",
    ),
    "a text that begins with a star alone": ("a: * x", "b.yaml:1:4 a text that begins with * or &"),
    "a text that begins with `": ("a: `x` is broken", "b.yaml:1:4 a text that begins with ` goes in quotes"),
    "a text that begins with @": ("a: @claude", "b.yaml:1:4 a text that begins with @ goes in quotes"),
    "a text that begins with %": ("a: %s", "b.yaml:1:4 a text that begins with % goes in quotes"),
    "a text that begins with !": ("a: !important now", "b.yaml:1:4 a text that begins with ! goes in quotes"),
    "a text that begins with [": ("a: [urgent] do it", "b.yaml:1:13 the brackets have closed, and more follows"),
    "a text that begins with {": ("a: {x} do it", "b.yaml:1:8 the brackets have closed, and more follows"),
    "an apostrophe in single quotes": ("a: 'don't'", "b.yaml:1:9 the text in single quotes has ended"),
    "a quote in double quotes": ('a: "say "hi""', "b.yaml:1:10 the text in double quotes has ended"),
    "a quote that is never closed": ("a: 'x\nb: y", "b.yaml:1:4 the quote that begins here is never closed"),
    "a bracket that is never closed": ("a: [b, c", "b.yaml:1:4 `[` is never closed"),
    "a brace that is never closed": ("a: {b: c\nd: e", "b.yaml:2:2 a `,` or `}` is missing for the `{` in line 1"),
    "a backslash in double quotes": ('a: "C:\\work"', "b.yaml:1:8 in double quotes a backslash begins an escape"),
    "a text on the line of its |": ("a: | x", "b.yaml:1:6 after `|` or `>` the text begins on the next line"),
    "a text that is not indented": ("a: b\nand more\nc: d", "b.yaml:2:1 this line is neither `name: value` nor a part"),
    "a name that is there twice": ("a: b\nc: d\na: e", "b.yaml:3:1 a is there twice, first in line 1; remove one"),
    "a second document": ("a: b\n---\nc: d", "b.yaml:2:1 a second document begins here; one file is one batch"),
    "a number as a name": ("1: x", 'b.yaml:1:1 the name 1 is no text; put it in quotes: "1"'),
    "a truth as a name": ("true: x", 'b.yaml:1:1 the name true is no text; put it in quotes: "true"'),
    "braces as a name": ("{a}: x", "b.yaml:1:1 a text that begins with { or [ goes in quotes"),
    "an issue's number": ("a: Fix #12 now", "b.yaml:1:8 the text ends before '#12', which YAML takes for a comment"),
    "a word with a hash": ("a: Fix it #now", "b.yaml:1:11 the text ends before '#now'"),
    "a control character": ("a: \x07", "b.yaml:1:4 the character '\\x07' may not be in YAML"),
    "half a character": ('a: "\\ud800"', "b.yaml:1:4 the text has half a character in it"),
    "no character": ('a: "\\U00110000"', "b.yaml:1:1 what follows here is no YAML; look for an odd escape"),
    "an endless number": ("a: " + "9" * 5000, "b.yaml:1:4 " + "9" * 30 + " is too large"),
    "an endless hexadecimal number": ("a: 0x" + "f" * 400, "b.yaml:1:4 0x" + "f" * 28 + " is too large"),
    "infinity": ("a: .inf", "b.yaml:1:4 .inf is no number that anything here can be"),
    "a number beyond floats": ("a: 1e999", "b.yaml:1:4 1e999 is too large"),
    "not a number": ("a: .nan", "b.yaml:1:4 .nan is no number that anything here can be"),
    "an alias of what it is in": ("a: &a [*a]", "b.yaml:1:8 `*a` is inside of what it stands for"),
    "another version": ("%YAML 9.9\n---\na: b", "b.yaml:1:1 no YAML: found incompatible YAML document"),
    "merging what is no mapping": ("<<: x", "b.yaml:1:5 << takes a mapping in, or a list of mappings"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_at_its_place_with_the_fix(text: str, message: str) -> None:
    """Each of the usual mistakes is one line that begins with its place and says what to write."""
    assert trouble(text).startswith(message)


def test_a_few_lines_that_stand_for_more_than_memory_holds() -> None:
    """Aliases of aliases of aliases are refused before anything is made of them."""
    lines = [
        "a: &a [x]",
        *(f"{name}: &{name} [{','.join([f'*{of}'] * 10)}]" for of, name in zip("abcdefgh", "bcdefghi", strict=True)),
    ]
    assert "stands for more than 1000000 values" in trouble("\n".join(lines))


def test_nesting_has_an_end() -> None:
    """Brackets within brackets are refused at a depth, and quickly, however many there are."""
    assert trouble("[" * 150).startswith("b.yaml:1:101 lists and mappings are nested more than 100 deep")


def test_words_are_those_of_yaml_1_2() -> None:
    """What older YAML takes for truth, dates, octal or sexagesimal numbers is a text, or decimal."""
    text = "{a: no, b: on, c: 2026-01-01, d: 1:30, e: 010, f: 0o17, g: 0x1F, h: ~, i: True, j: 1_000, k: .5, l: 1e3}"
    assert plain(text) == {
        "a": "no",
        "b": "on",
        "c": "2026-01-01",
        "d": "1:30",
        "e": 10,
        "f": 15,
        "g": 31,
        "h": None,
    } | {
        "i": True,
        "j": "1_000",
        "k": 0.5,
        "l": 1000.0,
    }
    assert plain("{a: !!str 5, b: '5', c: \"no\"}") == {"a": "5", "b": "5", "c": "no"}


def test_comments_are_comments() -> None:
    """A hash with a space after it, and one after a single word, begin a comment as everybody means them."""
    assert plain("a: two words # one\nb: word #fine\n# c\nd: x#12\n") == {"a": "two words", "b": "word", "d": "x#12"}


def test_anchors_and_merging() -> None:
    """Aliases stand for what their anchor is at, and `<<` takes in what the mapping does not say itself."""
    assert plain("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: [{f: 1}, *x]}\ng: *x") == {
        "a": {"b": 1, "c": 2},
        "d": {"c": 3, "b": 1},
        "e": {"f": 1, "b": 1, "c": 2},
        "g": {"b": 1, "c": 2},
    }


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcd-_", min_size=1, max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(_VALUES)
def test_what_a_yaml_writer_writes_is_read(value: Any) -> None:
    """Whatever can be in a batch file is read from YAML as it was written."""
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False  # in brackets it writes `?x`, which its own reader does not read
    writer.dump({"value": value}, stream)
    assert plain(stream.getvalue()) == {"value": value}
    assert not isinstance(value, float) or math.isfinite(value)


def test_lines_and_columns_are_an_editors() -> None:
    """Lines end where editors end them; columns count characters, also after wide ones and Windows line ends."""
    assert problems('# é\r\n# \u2028 \x85\r\ntasks:\r\n- {prompt: "ü日", x: 1}\r\n') == [
        "b.yaml:4:18 tasks[0].x no such field; `flaude schema` prints all that there are"
    ]


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    """Editors on Windows write one."""
    assert [request.tag for request in read(b"\xef\xbb\xbftasks: [{prompt: x}]").requests] == ["x"]
