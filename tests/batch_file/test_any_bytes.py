"""Whatever is in a file, it is a batch or a `BatchFileError`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batch_file.test_json_and_toml import TOML
from tests.batch_file.test_mistakes import EVERYTHING
from tests.batch_file.test_schema import RICH
from tests.batch_file.test_tasks import CSV, MATRIX, ROWS

from flaude.batch_file import BatchFileError, Format, Problem
from flaude.batch_file.parsing import parse
from flaude.batch_file.spec import Given

EXAMPLES: dict[Format, list[str]] = {
    "yaml": [EVERYTHING, MATRIX, ROWS, "a: &a [x, *a]\n<<: {b: c}\n? d\n: |\n  e\n--- !t\n%YAML 1.2\n"],
    "json": [json.dumps(RICH), '[1e5, -0.5, "\\ud83d\\ude00", null]'],
    "jsonl": ['{"app": "x", "defaults": {}}\n{"prompt": "x"}\n\n{"tag": "y", "prompt": "z"}\n'],
    "toml": [TOML, "[a.b.\"c d\"]\ne = [{f = 0x1F, g = 1979-05-27T07:32:00Z}, {}]\nh.i = '''j'''\n"],
    "csv": [CSV, 'tag,repo\n"a""b",x\r\n'],
}
_PIECES = st.sampled_from(
    [
        *(
            "\n",
            "\r",
            " ",
            "  ",
            "\t",
            ": ",
            "- ",
            "#",
            "'",
            '"',
            '"""',
            "[",
            "]",
            "{",
            "}",
            ",",
            "&x",
            "*x",
            "<<: ",
            "!",
        ),
        *(
            "|",
            ">",
            "=",
            "\\",
            "\\u12",
            "\\U00110000",
            "\x00",
            "\x85",
            "\u2028",
            "\ufeff",
            "é",
            "0x",
            "1e999",
            "nan",
            "~",
        ),
        *("---", "%", "@", "?", "tasks", "prompt", "rows", "matrix", "template", "defaults", "retries", "env", "repos"),
        *("tag", "{x}", "9" * 40),
    ]
)


@st.composite
def almost(draw: st.DrawFn, format_: Format) -> bytes:
    """An example of a format with a few pieces of it lost, doubled, or replaced; or just pieces."""
    text = draw(st.sampled_from(EXAMPLES[format_]) | st.lists(_PIECES, max_size=12).map("".join))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        text = text[:start] + draw(_PIECES | st.just(text[start:end] * 2) | st.text(max_size=3)) + text[end:]
    data = text.encode(errors="surrogatepass")
    return draw(st.just(data) | st.binary(max_size=20))


@pytest.mark.parametrize("format_", EXAMPLES)
def test_no_bytes_raise_anything_else(format_: Format, tmp_path: Path) -> None:
    """No content of a file, in any format, raises anything but a `BatchFileError` with lines that can be printed."""

    @settings(max_examples=120)
    @given(almost(format_))
    def check(data: bytes) -> None:
        given_ = Given({"X": "y"}, "my-app", "Do {path}" if format_ == "csv" else None)
        found: tuple[Problem, ...] = ()
        try:
            parse(data, "b", format_, given_, tmp_path)
        except BatchFileError as error:
            found = error.problems
        for problem in found:
            assert str(problem).isprintable()
            assert problem.line >= 0 and (problem.line == 0) == (problem.column == 0)

    check()
