"""Prompts made of data."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from flaude import ConfigError, MachineConfig, RepoSpec, expand
from flaude._model.tags import LONGEST, numbered, slug
from flaude.batch_file.placeholders import filled
from flaude.batch_file.templates import _SECRETS

CANARY = "sk-ant-oat-canary-0123456789"


def prompts(prompt: str, rows: list[dict[str, Any]]) -> list[str]:
    """The prompts that a template makes of rows."""
    return [request.config.prompt for request in expand({"prompt": prompt}, rows)]


def tags(rows: list[dict[str, Any]], *, tag: str = "", **fields: Any) -> list[str]:
    """The tags of rows."""
    return [request.tag for request in expand({"prompt": "do it", **fields}, rows, tag=tag)]


def error(template: Any, rows: Any, **arguments: Any) -> str:
    """What `expand` has to say against it."""
    with pytest.raises(ConfigError) as caught:
        expand(template, rows, **arguments)
    return str(caught.value)


def test_every_row_makes_a_request() -> None:
    """The requests are the rows', in their order, with the columns in place."""
    template = MachineConfig(prompt="Fix {path} in {repo}", repos=["https://github.com/org/{repo}"], max_turns=3)
    made = expand(template, [{"repo": "api", "path": "src/a.py"}, {"repo": "web", "path": "b.ts"}])
    assert [request.config.prompt for request in made] == ["Fix src/a.py in api", "Fix b.ts in web"]
    assert [request.config.repo_specs[0].url for request in made] == [
        "https://github.com/org/api",
        "https://github.com/org/web",
    ]
    assert [request.tag for request in made] == ["api-src-a.py", "web-b.ts"]
    assert {request.config.max_turns for request in made} == {3}
    assert made[0].config.model_fields_set == {"prompt", "repos", "max_turns"}


def test_every_text_of_the_template_is_filled_in() -> None:
    """Texts are filled in wherever they stand, in a mapping as in a config; numbers may be texts in a mapping."""
    template = {
        "prompt": "{x}",
        "repos": [
            RepoSpec("https://h/o/{x}", "b-{x}", "dir-{x}"),
            {"url": "https://h/o/two", "target_dir": "{x}/{x}"},
            "{url}",
        ],
        "append_system_prompt": "s {x}",
        "model": "m-{x}",
        "env": {"A": "e {x}", "B": SecretStr("{x}")},
        "metadata": {"k": "{x}"},
        "allowed_tools": ("Bash({x}:*)",),
        "claude_args": ["--add-dir", "{x}"],
        "max_turns": "{n}",
    }
    (request,) = expand(template, [{"x": "v", "n": 7, "url": "https://h/o/three"}])
    config = request.config
    assert config.repo_specs == (
        RepoSpec("https://h/o/v", "b-v", "dir-v"),
        RepoSpec("https://h/o/two", target_dir="v/v"),
        RepoSpec("https://h/o/three"),
    )
    assert (config.append_system_prompt, config.model, config.max_turns) == ("s v", "m-v", 7)
    assert config.env["A"] == "e v"
    assert config.metadata == {"k": "v"}
    assert (config.allowed_tools, config.claude_args) == (("Bash(v:*)",), ("--add-dir", "v"))


def test_secrets_and_json_are_left_as_they_are() -> None:
    """No row gets into a secret or into JSON."""
    template = MachineConfig(
        prompt="{x}", env={"S": SecretStr("{x}")}, json_schema={"{x}": "{x}"}, mcp_config={"a": "{x}"}
    )
    (request,) = expand(template, [{"x": "v"}])
    secret = request.config.env["S"]
    assert isinstance(secret, SecretStr)
    assert secret.get_secret_value() == "{x}"
    assert (request.config.json_schema, request.config.mcp_config) == ({"{x}": "{x}"}, {"a": "{x}"})


@pytest.mark.parametrize("field", sorted(_SECRETS))
@pytest.mark.parametrize("make", [str, SecretStr])
def test_a_variable_in_a_secret_is_refused(field: str, make: type[str | SecretStr]) -> None:
    """A variable in a token is an error, for it would be sent as the token; the row's token is not in the error."""
    text = error({"prompt": "x", field: make("{token}")}, [{"token": CANARY}])
    assert text.startswith(f"template: {field}: rows do not go into secrets")
    assert CANARY not in text
    (request,) = expand({"prompt": "{x}", field: make(CANARY)}, [{"x": "y"}])
    assert getattr(request.config, field).get_secret_value() == CANARY


def test_the_secret_fields_are_those_of_the_config() -> None:
    """The tokens are known by their type, so that a new one is too."""
    assert {"claude_code_oauth_token", "anthropic_api_key", "github_token"} == _SECRETS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a}", "1"),
        ("{{a}}", "{a}"),
        ("{{{a}}}", "{1}"),
        ("{{{{a}}}}", "{{a}}"),
        ("${a}", "$1"),
        ('{"k": {a}}', '{"k": 1}'),
        ('{"k":{{a}}}', '{"k":{a}}'),
        ("{{a}", "{1"),
        ("{a}{a}", "11"),
        ("{}", "{}"),
        ("{a", "{a"),
        ('{ "a": 1 }', '{ "a": 1 }'),
        ("{x: 1}", "{x: 1}"),
        ("{ a }", "{ a }"),
        ("{0}", "{0}"),
        ("{a.b} {a!r} {a:>4}", "{a.b} {a!r} {a:>4}"),
        ("${{ secrets.A }} ${{secrets.A}}", "${{ secrets.A }} ${{secrets.A}}"),
    ],
)
def test_which_braces_are_a_variable(text: str, expected: str) -> None:
    """Braces around an identifier are its value, doubled ones are literal, and so is everything else."""
    assert filled(text, {"a": "1"}, where="prompt") == expected


@given(st.text(st.sampled_from('{} ab_:"1$.\n')).filter(lambda text: not re.search(r"\{[^\W\d]\w*\}", text)))
def test_text_without_identifiers_in_braces_is_unchanged(text: str) -> None:
    """Whatever else stands in braces stays as it is."""
    assert filled(text, {}, where="prompt") == text


@given(st.text(), st.sampled_from(["{v}", "<{v}>", "{v}{v}", "a{v}"]))
@example("{v}", "{v}")
@example("{{v}} {other}", "{v}{v}")
def test_values_come_through_as_they_are(value: str, template: str) -> None:
    """What a row puts in is not looked at again, whatever braces it has."""
    assert filled(template, {"v": value}, where="prompt") == template.replace("{v}", value)


@given(st.text(st.sampled_from("ab {}")).filter(lambda text: not re.search(r"\{\{|\}\}", text)))
def test_doubled_braces_give_the_text_back(text: str) -> None:
    """A text with the braces of its variables doubled comes out as it was."""
    doubled = re.sub(r"\{([ab]+)\}", r"{{\1}}", text)
    assert filled(doubled, {}, where="prompt") == text


def test_long_rows_of_braces_take_no_time() -> None:
    """The time for a text grows with its length, not with its square."""
    text = "{" * 30_000 + "a" * 30_000
    began = time.process_time()
    assert filled(text, {}, where="prompt") == text
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([{}], ["row-0"]),
        ([{}, {}], ["row-0", "row-1"]),
        ([{"a": "x"}], ["x"]),
        ([{"a": "x", "b": 2}], ["x-2"]),
        ([{"a": "x", "b": 1}, {"a": "x", "b": 2}], ["1", "2"]),
        ([{"a": "x"}, {"a": "x"}], ["row-0", "row-1"]),
        ([{"b": "1", "a": "x"}, {"a": "y", "b": "2"}], ["1-x", "2-y"]),
        ([{"a": "x"}, {"a": "x", "b": "y"}], ["row-0", "y"]),
        ([{"a": "x y"}, {"a": "x/y"}, {"a": "z"}], ["x-y", "x-y-2", "z"]),
        ([{"a": "x y"}, {"a": "x/y"}, {"a": "x-y-2"}], ["x-y", "x-y-3", "x-y-2"]),
        ([{"a": "?"}, {"a": ""}], ["row-0", "row-1"]),
        ([{"a": "row 1"}, {"a": ""}], ["row-1", "row-1-2"]),
    ],
)
def test_tags_are_made_of_what_differs(rows: list[dict[str, Any]], expected: list[str]) -> None:
    """A made tag names what tells its row from the others."""
    assert tags(rows) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://github.com/org/api", "api"),
        ("https://github.com/org/api.git/", "api"),
        ("git@github.com:org/api.git", "api"),
        ("https://h/o/api?x=1#y", "api"),
        ("https://me:pass@host", "host"),
        ("https://me:pa/ss@host/o/api", "api"),
        ("src/auth/login.py", "src-auth-login.py"),
        ("./src/../x", "src-.-x"),
        ("/etc/passwd", "etc-passwd"),
        ("  Fix the bug!\n", "Fix-the-bug"),
        ("naïve Überprüfung", "naïve-Überprüfung"),
        ("Cargo.lock", "Cargo-lock"),
        ("1.5", "1.5"),
        ("-3", "3"),
        ("../..", ""),
    ],
)
def test_slugs(text: str, expected: str) -> None:
    """A slug is what people would call it, and nothing that git or a shell stumbles over."""
    assert slug(text) == expected


@given(st.text())
@example("a/" * 40)
@example("x" * (LONGEST - 5) + ".lock.lock")
@example("x" * (LONGEST - 1) + ".y")
def test_a_slug_ends_a_branch(text: str) -> None:
    """Any text makes a slug that is short and may stand in a branch's name."""
    made = slug(text)
    assert len(made) <= LONGEST
    assert ".." not in made
    assert not made.endswith((".", ".lock"))
    assert not made.startswith((".", "-"))
    assert not set(made) & set(" ~^:?*[\\/@{}\n\t\0")


VALUES = st.one_of(
    st.sampled_from(["", "x", "x-2", "x y", "x/y", "row-1", "1"]), st.integers(0, 3), st.text(max_size=4)
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c d"]), VALUES, max_size=3), max_size=12)


@given(ROWS, st.sampled_from(["", "t", "{{a}}"]))
def test_tags_are_unique(rows: list[dict[str, Any]], tag: str) -> None:
    """No two rows have one tag, whatever is in them, and none is empty."""
    made = tags(rows, tag=tag)
    assert len(made) == len(rows)
    assert len(set(made)) == len(made)
    assert all(made)


@given(st.lists(st.sampled_from(["x", "x-2", "x-2-2", "x-3", "y"])))
def test_a_numbered_tag_is_no_other_rows_own(own: list[str]) -> None:
    """The first of equal tags stays what it is, and a number is nobody's own tag."""
    made = numbered(own)
    for index, (before, after) in enumerate(zip(own, made, strict=True)):
        if before in own[:index]:
            assert after.startswith(f"{before}-")
            assert after not in own
        else:
            assert after == before


def test_tags_and_errors_are_short() -> None:
    """Rows of long texts make tags and errors that fit in a line."""
    rows = [{"a": "x" * 50, "b": f"{'y' * 50} {index}"} for index in range(3)]
    assert tags(rows) == [f"{'y' * 50}-{index}" for index in range(3)]
    rows[0]["a"] = "z"
    assert max(map(len, tags(rows))) <= LONGEST + len("-3")
    assert len(error({"prompt": " "}, rows[1:])) < 160


def test_tags_by_template() -> None:
    """`tag=` is used as it is, and equal ones are numbered."""
    rows = [{"repo": "a/b", "n": 1}, {"repo": "a/b", "n": 2}, {"repo": "c", "n": 3}]
    assert tags(rows, tag="{repo}!") == ["a/b!", "a/b!-2", "c!"]
    assert tags([{"tag": "t"}], tag="x {tag}") == ["x t"]


def test_a_column_named_tag_is_the_tag() -> None:
    """A column `tag` is taken as it is."""
    rows = [{"tag": "A b", "x": 1}, {"tag": "A b", "x": 2}]
    assert tags(rows) == ["A b", "A b-2"]


def test_the_tag_is_a_variable() -> None:
    """`{tag}` is the tag that the result has, number and all, however it came about."""
    rows = [{"repo": "api"}, {"repo": "api"}]
    made = expand({"prompt": "push to flaude/{tag}", "metadata": {"t": "{tag}"}}, rows, tag="{repo}")
    assert [request.config.prompt for request in made] == ["push to flaude/api", "push to flaude/api-2"]
    assert [request.config.metadata["t"] for request in made] == [request.tag for request in made]
    assert prompts("{tag}", [{"tag": "t"}]) == ["t"]


def test_the_tag_in_a_branch_is_put_in_at_the_launch() -> None:
    """A tag may be what git takes for no branch; columns are put in as everywhere."""
    template = {"prompt": "x", "repos": ["file:///srv/{repo}"], "push_branch": "{repo}/{tag}"}
    made = expand(template, [{"repo": "api", "tag": "fix: a b"}])
    assert [(request.tag, request.config.push_branch) for request in made] == [("fix: a b", "api/{tag}")]


def test_a_missing_variable_names_itself_and_the_row() -> None:
    """The error says which variable, where, in which row, and both ways out."""
    text = error({"prompt": "Fix {modul}"}, [{"repo": "https://h/o/api", "module": "m"}] * 2)
    assert text == (
        "rows[0] (repo=api, module=m): prompt: no column 'modul' for {modul}; add the column "
        "(there is repo, module, tag), or write {{modul}} for the literal text"
    )
    rows = [{"a": "1", "b": "2"}, {"a": "3"}]
    assert error({"prompt": "{a}", "repos": [{"url": "https://h/{b}"}]}, rows).startswith(
        "rows[1] (a=3): repos[0].url: no column 'b' for {b}"
    )
    assert error({"prompt": "x"}, [{"a": "1"}], tag="{b}").startswith("rows[0] (a=1): tag: no column 'b'")
    assert error({"prompt": "x"}, [{"tag": "1"}, {}]).startswith("rows[1]: tag: no column 'tag'")
    assert error({"prompt": "x"}, [{"a": "1"}], tag="{tag}").startswith("rows[0] (a=1): tag: no column 'tag'")


def test_a_bad_row_names_itself() -> None:
    """What is wrong with one row's config is said with the row before it, and no request is made."""
    rows = [{"repo": "api", "prompt": "x"}] * 199 + [{"repo": "web", "prompt": " "}]
    assert error({"prompt": "{prompt}"}, rows) == (
        "rows[199] (repo=web, prompt=): prompt: empty; say what the agent is to do"
    )
    template = {"prompt": "x", "repos": ["{url}"]}
    assert error(template, [{"url": "nowhere"}]).startswith("rows[0] (url=nowhere): repos.url: ")


@pytest.mark.parametrize(
    ("template", "rows", "arguments", "expected"),
    [
        ("{x}", [], {}, "template: give a MachineConfig or a mapping of its fields, not str"),
        ({"prompt": "x"}, "abc", {}, "rows: give a list of rows"),
        ({"prompt": "x"}, {"a": "b"}, {}, "rows: give a list of rows"),
        ({"prompt": "x"}, None, {}, "rows: give a list of rows"),
        ({"prompt": "x"}, ["abc"], {}, "rows[0]: give a mapping of columns such as {'repo': 'api'}, not str"),
        ({"prompt": "x"}, [{}, {1: "a"}], {}, "rows[1]: a column's name is a text, not int"),
        ({"prompt": "x"}, [{"a": None}], {}, "rows[0]: column 'a' is None; give a text or a number"),
        ({"prompt": "x"}, [{"a": True}], {}, "rows[0]: column 'a' is bool"),
        ({"prompt": "x"}, [{"a": ["b"]}], {}, "rows[0]: column 'a' is list"),
        ({"prompt": "x"}, [{"a": SecretStr("s")}], {}, "rows[0]: column 'a' is SecretStr"),
        ({"prompt": "x"}, [{"a": 1}], {"tag": 5}, "tag: give a text such as '{repo}', not int"),
        ({"prompt": "x"}, [{"a": 1}], {"tag": " "}, "rows[0] (a=1): tag: empty"),
        ({"prompt": "x"}, [{"tag": ""}], {}, "rows[0] (tag=): tag: empty"),
        ({"promt": "x"}, [{}], {}, "rows[0]: prompt: missing; promt: MachineConfig has no such field"),
        ({5: "x"}, [{}], {}, "rows[0]: prompt: missing; 5: MachineConfig has no such field"),
    ],
)
def test_bad_input_names_itself(template: Any, rows: Any, arguments: dict[str, Any], expected: str) -> None:
    """Whatever is no template, row or tag is refused with its place and what is right."""
    assert expected in error(template, rows, **arguments)


def test_secrets_of_rows_never_show() -> None:
    """What goes into `env` alone, and the password of an address, is in no tag and in no error."""
    rows = [{"repo": "api", "key": f"{CANARY}-1"}, {"repo": "api", "key": f"{CANARY}-2"}]
    template: dict[str, Any] = {"prompt": "{repo}", "env": {"KEY": "{key}"}}
    assert [request.tag for request in expand(template, rows)] == ["row-0", "row-1"]
    assert [request.tag for request in expand({**template, "prompt": "{{key}}"}, rows)] == ["row-0", "row-1"]
    assert error({**template, "model": "{nothing}"}, rows).startswith("rows[0] (repo=api): model: ")
    assert error({**template, "env": {"KEY": "{key}", "B": "{nothing}"}}, rows).startswith("rows[0] (repo=api): env.B")
    assert CANARY not in error({**template, "max_turns": 0}, rows)
    shown = {**template, "prompt": "{repo} {key}"}
    assert [request.tag for request in expand(shown, rows)] == [f"{CANARY}-1", f"{CANARY}-2"]
    text = error({"prompt": "x", "repos": ["{url}"]}, [{"url": f"https://me:{CANARY}@h/o/api"}])
    assert text == "rows[0] (url=api): repos.url: holds credentials; remove them and use github_token"


def test_rows_of_a_csv_file() -> None:
    """`csv.DictReader` gives rows; one that is too short or too long names itself."""
    read = csv.DictReader(io.StringIO("repo,path\napi,a.py\nweb,b.ts\n"))
    assert [request.tag for request in expand({"prompt": "{path}"}, read)] == ["api-a.py", "web-b.ts"]
    assert "rows[0]: column 'path' is None" in error({"prompt": "x"}, csv.DictReader(io.StringIO("repo,path\napi\n")))
    assert "rows[0]: a column's name is a text, not None" in error(
        {"prompt": "x"}, csv.DictReader(io.StringIO("repo\napi,b\n"))
    )


class Colour(str, Enum):  # noqa: UP042  # the kind whose `str` is not its value
    """A string enum."""

    RED = "red"


def test_values_are_written_as_people_would() -> None:
    """Numbers are their digits, and a string enum is its value."""
    assert prompts("{a}", [{"a": 1}, {"a": 1.5}, {"a": Colour.RED}]) == ["1", "1.5", "red"]


def test_a_templates_lists_serve_every_row() -> None:
    """A generator or a set in the template is there for the last row as for the first."""
    template: Mapping[str, Any] = {
        "prompt": "{x}",
        "repos": (url for url in ["https://h/o/{x}"]),
        "claude_args": {"{x}"},
    }
    made = expand(template, [{"x": "a"}, {"x": "b"}])
    assert [request.config.repo_specs[0].folder for request in made] == ["a", "b"]
    assert [request.config.claude_args for request in made] == [("a",), ("b",)]
