"""JSON, JSON lines and TOML: values, places, mistakes."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batch_file.reading import problems, read

from flaude.batch_file import BatchFileError
from flaude.batch_file.json_nodes import read_json
from flaude.batch_file.nodes import Lines, Node
from flaude.batch_file.problems import Problems
from flaude.batch_file.toml_nodes import read_toml


def trouble(text: str, name: str) -> str:
    """The one thing that is wrong with a text."""
    found = Problems()

    def read_it() -> None:
        read_json(text, Lines(text, "b"), found) if name == "json" else read_toml(text, "b", found)
        found.check()

    with pytest.raises(BatchFileError) as caught:
        read_it()
    (problem,) = caught.value.problems
    return str(problem)


JSON_MISTAKES = {
    "a comma too many": ('{"a": 1,}', "b:1:8 a comma too many before `}`"),
    "a comma too many in a list": ("[1,\n2,\n]", "b:2:2 a comma too many before `]`"),
    "a comment": ('{"a": 1 // x\n}', "b:1:9 JSON has no comments; take them out, or write YAML"),
    "single quotes": ("{'a': 1}", 'b:1:2 JSON has double quotes only: "…"'),
    "two values": ('{"a": 1}\n{"a": 2}', "b:2:1 more follows than one JSON value; one task a line is --format jsonl"),
    "an open bracket": ('{"a": [1', "b:1:9 the file ends in the middle of a value"),
    "an open quote": ('{"a": "x', "b:1:7 the quote that begins here is never closed"),
    "a line's end in a text": ('{"a": "x\ny"}', "b:1:9 a line's end or a tab inside of a text; write it as \\n or \\t"),
    "no colon": ('{"a" 1}', "b:1:6 no JSON: Expecting ':' delimiter"),
    "a name twice": ('{"a": 1,\n "a": 2}', "b:2:2 a is there twice, first in line 1"),
    "not a number": ('{"a": NaN}', "b:1:7 NaN is no number that anything here can be"),
    "a number beyond floats": ("[1, 1e999]", "b:1:5 1e999 is too large"),
    "an endless number": ("9" * 5000, "b:1:1 " + "9" * 30 + " is too large"),
    "half a character": ('["\\ud800"]', "b:1:2 the text has half a character in it"),
    "nesting": ("[" * 150 + "]" * 150, "b:1:101 lists and objects are nested more than 100 deep"),
    "much nesting": ("[" * 3000, "b:1:101 lists and objects are nested more than 100 deep"),
    "endless nesting": ("[" * 100_000, "b:1:101 lists and objects are nested more than 100 deep"),
}

TOML_MISTAKES = {
    "no value": ("a =", "b:1:4 the value is missing after the `=`"),
    "no quotes": ("a = my-app", "b:1:5 no value; a text goes in quotes"),
    "a colon": ("a: 1", "b:1:2 TOML has `=` between a name and its value, not `:`"),
    "a name twice": ("a = 1\na = 2", "b:2:6 this name is there twice"),
    "a table twice": ("[a]\n[a]", "b:2:3 this table is there twice; a list of tables is written [[…]]"),
    "an open quote": ('a = "x\n', "b:1:7 no TOML: Illegal character"),
    "the end": ("a = [1,\n", "b:1:8 "),
    "not a number": ("a = nan", "b:1:5 nan is no number that anything here can be"),
    "a number too large": ("a = 99999999999999999999", "b:1:5 99999999999999999999 is too large"),
    "a number beyond floats": ("a = 1" + "0" * 400, "b:1:5 1" + "0" * 29 + " is too large"),
    "an endless number": ("a = " + "9" * 5000, "b:1:1 no TOML: a number or a date is out of range"),
    "nesting": ("a = " + "[" * 150 + "]" * 150, "b:1:105 lists and tables are nested more than 100 deep"),
    "endless nesting": ("a = " + "[" * 5000 + "]" * 5000, "b:1:1 lists and tables are nested more than 100 deep"),
}


@pytest.mark.parametrize(("text", "message"), JSON_MISTAKES.values(), ids=JSON_MISTAKES)
def test_a_mistake_in_json_is_told_at_its_place(text: str, message: str) -> None:
    """Each of the usual mistakes is one line that begins with its place."""
    assert trouble(text, "json").startswith(message)


@pytest.mark.parametrize(("text", "message"), TOML_MISTAKES.values(), ids=TOML_MISTAKES)
def test_a_mistake_in_toml_is_told_at_its_place(text: str, message: str) -> None:
    """Each of the usual mistakes is one line that begins with its place."""
    assert trouble(text, "toml").startswith(message)


def offsets(node: Node, lines: list[str]) -> list[tuple[Any, str]]:
    """Each value inside of a node, with the text that stands at its place."""
    found = [(node.plain(), lines[node.place.line - 1][node.place.column - 1 :])]
    for item in (
        node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    ):
        found += offsets(item, lines)
    return found


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\é', max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60)
@given(_JSON, st.sampled_from([None, 1]), st.booleans())
def test_every_value_of_json_is_at_its_place(value: Any, indent: int | None, ascii_: bool) -> None:
    """Values are Python's own, and each place is where the value begins, in any layout."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_)
    node = read_json(text, Lines(text, "b"), Problems())
    assert node.plain() == value
    for inner, at in offsets(node, text.split("\n")):
        first = json.dumps(inner, ensure_ascii=ascii_)[:1]
        assert at.startswith(first)


TOML = '''\
app = "x" # = "y"
defaults.env.A = 'b' # a literal
when = 2026-01-01 10:00:00
deep = [ [1, 2], # comment ]
  [ { a = "}", b = [3] } ],
]

[timeouts]
"bo\\u006ft" = 10
[[tasks]]
prompt = """
x "quoted" \\""" y"""
repos = [ "u", {url = "v", branch = \'\'\'b\'\'\'}, ]
[tasks.env]
Z = "1"
[[tasks]]
tag = "last"
env.B.c = 5
'''


def test_every_value_of_toml_is_at_its_place() -> None:
    """Tables, lists of tables, dotted and quoted names, texts on many lines: each has its place."""
    node = read_toml(TOML, "b", Problems())
    assert node.plain() == tomllib.loads(TOML)
    places = {
        ".".join(path): (item.place.line, item.place.column)
        for path, item in [
            (("app",), node.value["app"]),
            (("defaults", "env", "A"), node.value["defaults"].value["env"].value["A"]),
            (("deep", "1", "0", "b", "0"), node.value["deep"].value[1].value[0].value["b"].value[0]),
            (("timeouts", "boot"), node.value["timeouts"].value["boot"]),
            (("tasks", "0"), node.value["tasks"].value[0]),
            (("tasks", "0", "prompt"), node.value["tasks"].value[0].value["prompt"]),
            (
                ("tasks", "0", "repos", "1", "branch"),
                node.value["tasks"].value[0].value["repos"].value[1].value["branch"],
            ),
            (("tasks", "0", "env", "Z"), node.value["tasks"].value[0].value["env"].value["Z"]),
            (("tasks", "1", "env", "B", "c"), node.value["tasks"].value[1].value["env"].value["B"].value["c"]),
        ]
    }
    assert places == {
        "app": (1, 7),
        "defaults.env.A": (2, 18),
        "deep.1.0.b.0": (5, 21),
        "timeouts.boot": (9, 15),
        "tasks.0": (10, 1),
        "tasks.0.prompt": (11, 10),
        "tasks.0.repos.1.branch": (13, 37),
        "tasks.0.env.Z": (15, 5),
        "tasks.1.env.B.c": (18, 11),
    }
    keys = node.value["tasks"].value[1].keys
    assert [(place.line, place.column) for place in keys.values()] == [(17, 1), (18, 1)]


def test_a_date_of_toml_is_no_text() -> None:
    """TOML has dates, and no field takes one: the message has it in quotes."""
    assert problems('[[tasks]]\nprompt = "x"\ntag = 2026-01-01\n[tasks.json_schema]\nx = [10:30:00]', "b.toml") == [
        'b.toml:3:7 tasks[0].tag 2026-01-01 is a date; to make it a text, put it in quotes: "2026-01-01"',
        'b.toml:5:6 tasks[0].json_schema.x[0] 10:30:00 is a date; to make it a text, put it in quotes: "10:30:00"',
    ]


HEADER = '{"app": "their-app", "defaults": {"model": "opus"}}'


def test_json_lines_have_a_task_each() -> None:
    """Blank lines are nothing; the first line is a header when it has a field of the whole file and no prompt."""
    spec = read(
        f'{HEADER}\n\n{{"prompt": "one"}}\r\n{{"tag": "b", "prompt": "two", "model": "haiku"}}\n', "b.jsonl", app=None
    )
    assert spec.settings.app == "their-app"
    assert [(request.tag, request.config.model) for request in spec.requests] == [("one", "opus"), ("b", "haiku")]
    assert [request.tag for request in read('{"tag": "a", "prompt": "x"}', "b.jsonl").requests] == ["a"]


def test_every_line_of_json_lines_is_looked_at() -> None:
    """What is wrong with one line does not hide what is wrong with the next; each has its place."""
    text = '{"app": "x", "matrix": {}}\n{"prompt": "x", "app": "y"}\n{"a" 1}\n[1]\n{"promt": "x"}\n{"app": "z"}'
    assert problems(text, "b.jsonl", app=None) == [
        "b.jsonl:1:14 matrix a JSONL file has one task a line; write JSON or YAML for this",
        "b.jsonl:2:17 tasks[0].app belongs to the top of the file, beside `tasks`",
        "b.jsonl:3:6 no JSON: Expecting ':' delimiter",
        "b.jsonl:4:1 tasks[1] is a list; give a task such as {tag: auth-review, prompt: Review the auth module}",
        "b.jsonl:5:2 tasks[2].promt no such field; did you mean prompt?",
        "b.jsonl:6:1 tasks[3].prompt is missing; give prompt or prompt_file, here or in `defaults`",
        "b.jsonl:6:2 tasks[3].app belongs to the top of the file, beside `tasks`",
    ]
    assert problems(HEADER, "b.jsonl") == ["b.jsonl:1:1 tasks is empty; give a list of tasks, each after a `- `"]
