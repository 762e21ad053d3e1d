"""What a batch file comes to: tasks, defaults, matrix, rows, settings."""

from __future__ import annotations

import json
from pathlib import Path

import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batch_file.reading import problems, read

from flaude import EnvSecret, FailureKind, RepoSpec, Retries, Timeouts, expand
from flaude._model.durations import duration, seconds_of
from flaude._model.settings import ExecutorSettings
from flaude.batch_file import load

SMALLEST = """\
app: my-app
max_concurrency: 5
defaults:
  repos: [https://github.com/your-org/your-repo]
tasks:
  - tag: auth-review
    prompt: Review the auth module for security issues
"""


def test_the_smallest_file() -> None:
    """An app, a cap, defaults and one task are a batch; all else is `ConcurrentExecutor`'s defaults."""
    spec = read(SMALLEST, "folder/b.yaml", app=None)
    assert spec.settings == ExecutorSettings(app="my-app", max_concurrency=5)
    assert spec.source == "folder/b.yaml"
    (request,) = spec.requests
    assert request.tag == "auth-review" and request.name is None
    assert request.config.prompt == "Review the auth module for security issues"
    assert request.config.repo_specs == (RepoSpec("https://github.com/your-org/your-repo"),)
    assert request.config.model_fields_set == {"prompt", "repos"}


def test_every_format_says_the_same() -> None:
    """YAML, JSON, JSON lines and TOML are four ways to write one batch."""
    task = {"tag": "auth-review", "prompt": "Review the auth module for security issues"}
    head = {
        "app": "my-app",
        "max_concurrency": 5,
        "defaults": {"repos": ["https://github.com/your-org/your-repo"]},
    }
    toml = (
        'app = "my-app"\nmax_concurrency = 5\n[defaults]\nrepos = ["https://github.com/your-org/your-repo"]\n'
        '[[tasks]]\ntag = "auth-review"\nprompt = "Review the auth module for security issues"\n'
    )
    yaml = read(SMALLEST)
    for text, name in [
        (json.dumps({**head, "tasks": [task], "$schema": "./flaude.schema.json"}), "b.json"),
        (f"{json.dumps(head)}\n{json.dumps(task)}\n", "b.jsonl"),
        (f"{json.dumps(head)}\n{json.dumps(task)}\n", "b.ndjson"),
        (toml, "b.toml"),
        (SMALLEST, "B.YML"),
    ]:
        spec = read(text, name)
        assert (spec.settings, spec.requests) == (yaml.settings, yaml.requests)


def test_all_settings() -> None:
    """Every setting of the executor has its place; durations are seconds or texts."""
    spec = read(
        "{max_concurrency: 0, budget: 12.5, max_machine_seconds: 2h, wait_timeout: 1h30m, max_auth_failures: 0, "
        "output_dir: out/here, timeouts: {boot: 90s, idle: 0, clone: 7.5, orphan: 1d, linger: 2h30m}, "
        "retries: {more: 4, kinds: [oom], after_start: true, wait: 1.5s}, "
        "tasks: [{prompt: x, max_budget_usd: 1}]}"
    )
    assert spec.settings == ExecutorSettings(
        app="my-app",
        max_concurrency=0,
        budget_usd=12.5,
        max_machine_seconds=7200,
        wait_timeout=5400,
        max_auth_failures=0,
        output_dir=Path("out/here"),
        timeouts=Timeouts(boot=90, idle=0, clone=7.5, orphan=86400, linger=9000),
        retries=Retries(more=4, kinds={FailureKind.OOM}, after_start=True, wait=1.5),
    )
    assert read("{retries: 0, budget: null, max_concurrency: null, tasks: [{prompt: x}]}").settings == ExecutorSettings(
        app="my-app", retries=Retries(more=0)
    )


@given(st.integers(1, 300 * 86400))
def test_a_duration_is_what_it_says(seconds: int) -> None:
    """What is printed as a duration is read as one, as exactly as it is printed."""
    read_again = seconds_of(duration(seconds))
    assert read_again is not None and seconds * 0.95 <= read_again <= seconds


@pytest.mark.parametrize("text", ["", "5", "1m1h", "10 m", "1.m", "-5s", "1h\n", "5S", "m", "1m30"])
def test_what_is_no_duration(text: str) -> None:
    """Only numbers with their units, the largest first, are one."""
    assert seconds_of(text) is None


def test_a_task_takes_from_the_defaults_what_it_does_not_say() -> None:
    """`env` and `metadata` are put together by names, all else is replaced, and null takes a default back."""
    spec = read(
        "defaults: {prompt: p, model: opus, max_turns: 5, env: {A: a, B: b, S: {env: S}}, metadata: {k: v}, "
        "collect: [x]}\n"
        "tasks: [{}, {prompt: q, model: null, env: {B: c}, metadata: {l: w}, collect: []}]",
        environ={"S": "secret"},
    )
    first, second = (request.config for request in spec.requests)
    assert (first.prompt, first.model, first.max_turns, first.metadata) == ("p", "opus", 5, {"k": "v"})
    assert (second.prompt, second.model, second.max_turns) == ("q", None, 5)
    assert (second.metadata, second.collect) == ({"k": "v", "l": "w"}, ())
    assert {name: str(value) for name, value in second.env.items()} == {"A": "a", "B": "c", "S": "**********"}
    assert isinstance(second.env["S"], EnvSecret) and second.env["S"].variable == "S"


async def test_files_are_found_from_the_batch_file(tmp_path: Path) -> None:
    """Prompts and rows lie beside the batch file, wherever flaude is started; what is wrong in them has their names."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.md").write_text("\ufeffReview {x}\nand more\n", encoding="utf-8")
    (tmp_path / "prompts" / "blank.md").write_text(" \n")
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    (tmp_path / "bad.csv").write_text("x,y\n1\n")
    batch = tmp_path / "b.yaml"
    batch.write_text("defaults: {prompt_file: prompts/a.md}\ntasks: [{}]\nrows: rows.csv\n")
    spec = await load(batch, environ={}, app="my-app")
    assert [request.config.prompt for request in spec.requests] == ["Review {x}\nand more\n", "Review 1\nand more\n"]
    text = "rows: bad.csv\ntasks: [{prompt_file: prompts/blank.md}, {prompt_file: '.'}]\ndefaults: {prompt: x}\n"
    assert await anyio.to_thread.run_sync(lambda: problems(text, "d/b.yaml", folder=tmp_path)) == [
        "d/b.yaml:2:23 tasks[0].prompt_file 'd/prompts/blank.md' is empty; say what the agent is to do",
        "d/b.yaml:2:56 tasks[1].prompt_file 'd': is a directory; give a file",
        (
            "d/bad.csv:2:1 has 1 cell, the first line has 2 columns; a cell with a comma in it goes in double quotes: "
            '"a, b"'
        ),
    ]


def tags(text: str, name: str = "b.yaml", **given_: object) -> list[str]:
    """The tags that a file comes to."""
    return [request.tag for request in read(text, name, **given_).requests]  # type: ignore[arg-type]


def test_tags_are_made_where_there_are_none() -> None:
    """Of the prompt's first words, else the repository, else the model; given ones stay, and none is there twice."""
    assert tags(
        "defaults: {prompt: p}\n"
        'tasks: [{prompt: "\\n Review the auth module for all of the security issues\\nnow"}, '
        "{repos: [https://h/o/api.git]}, {model: opus}, {}, {}, {prompt: x}, {tag: x, prompt: y}, {prompt: x}, "
        "{prompt: 日本}]"
    ) == ["Review-the-auth-module-for-all-of-the", "api", "opus", "task", "task-2", "x-2", "x", "x-3", "日本"]


MATRIX = """\
defaults: {max_turns: 3}
matrix:
  prompts:
    - {tag: review, prompt: Review it}
    - Write the docs
  repos:
    - https://github.com/o/api
    - {url: https://github.com/o/api, branch: v2}
    - git@github.com:o/web.git
  models: [opus, sonnet]
"""


def test_the_matrix_is_every_combination() -> None:
    """Prompts times repositories times models, in this order, each with a tag of what it is."""
    requests = read(MATRIX).requests
    assert [request.tag for request in requests] == [
        f"{prompt}-{repo}-{model}"
        for prompt in ("review", "Write-the-docs")
        for repo in ("api", "api-v2", "web")
        for model in ("opus", "sonnet")
    ]
    last = requests[-1].config
    assert (last.prompt, last.model, last.max_turns) == ("Write the docs", "sonnet", 3)
    assert last.repo_specs == (RepoSpec("git@github.com:o/web.git"),)


def test_the_matrix_leaves_out_what_is_the_same() -> None:
    """A tag names what differs; a dimension that is not there is that of the defaults."""
    assert tags("matrix: {prompts: [a, b], models: [opus]}") == ["a", "b"]
    assert tags("matrix: {prompts: [a], models: [opus]}") == ["a-opus"]
    assert tags("defaults: {prompt: x}\nmatrix: {repos: [https://h/a/x, https://h/b/x]}") == ["x", "x-2"]
    assert tags("tasks: [{tag: a, prompt: x}]\nmatrix: {prompts: [a, b]}") == ["a", "a-2", "b"]
    assert problems("matrix: {models: [opus]}") == [
        "b.yaml:1:9 matrix.prompts is missing; give prompt or prompt_file, here or in `defaults`"
    ]
    assert problems("matrix: {prompts: [{tag: a}, '', 5], repos: [here, {branch: x}], models: []}") == [
        "b.yaml:1:20 matrix.prompts[0] has none of prompt, prompt_file; give one of them",
        "b.yaml:1:30 matrix.prompts[1] is empty; give a prompt",
        'b.yaml:1:34 matrix.prompts[2] 5 is a number; to make it a text, put it in quotes: "5"',
        "b.yaml:1:46 matrix.repos[0] 'here' is not a repository's address such as https://github.com/org/repo",
        "b.yaml:1:52 matrix.repos[1].url is missing; give a repository's address",
        "b.yaml:1:74 matrix.models is empty; give a list of models",
    ]


def test_a_matrix_that_nobody_means() -> None:
    """A few lists make more tasks than any account has machines: that is said before they are made."""
    many = "[" + ",".join(f"p{index}" for index in range(400)) + "]"
    assert problems(f"matrix: {{prompts: {many}, models: {many}}}") == [
        "b.yaml:1:9 matrix makes 160000 tasks; nobody means that many"
    ]


ROWS = """\
template:
  tag: "{repo}-{path}"
  prompt: "Replace `{old}` by `{new}` in {path}; ${{ x }}, {{old}} and {tag}"
  repos: ["https://github.com/o/{repo}"]
  max_turns: "{turns}"
  vm_size: "{size}"
rows:
  - {repo: api, path: a.py, old: userId, new: user_id, turns: 5, size: shared-cpu-1x}
  - {repo: web, path: b.ts, old: "1.10", new: 1.20, turns: 7, size: shared-cpu-2x}
"""


def test_rows_fill_in_the_template() -> None:
    """Each row makes a task; numbers go in as they are written, and `{tag}` is the row's tag."""
    requests = read(ROWS).requests
    assert [request.tag for request in requests] == ["api-a.py", "web-b.ts"]
    assert requests[1].config.prompt == "Replace `1.10` by `1.20` in b.ts; ${{ x }}, {old} and web-b.ts"
    assert requests[0].config.repo_specs == (RepoSpec("https://github.com/o/api"),)
    assert [(request.config.max_turns, request.config.vm_size) for request in requests] == [
        (5, "shared-cpu-1x"),
        (7, "shared-cpu-2x"),
    ]


def test_rows_have_the_tags_of_expand() -> None:
    """Without a tag they are named as `flaude.expand` names them, and none is a task's."""
    rows = [{"site": "api", "path": "a.py", "same": "x"}, {"site": "web", "path": "b.ts", "same": "x"}]
    made = [request.tag for request in expand({"prompt": "p"}, rows)]
    text = json.dumps({"rows": rows, "defaults": {"prompt": "p"}, "tasks": [{"tag": made[1]}]})
    assert tags(text, "b.json") == [made[1], made[0], f"{made[1]}-2"]


def test_what_is_wrong_with_rows() -> None:
    """A column that no row has is the template's mistake; one that a row lacks or a wrong value the row's."""
    text = ROWS.replace("{new}", "{nwe}").replace("{turns}", "{trns}").replace('"{size}"', "{size}")
    first, second, third = problems(text)
    assert first == (
        "b.yaml:3:11 template.prompt no row has a column nwe for {nwe}; did you mean new? ({{nwe}} is the literal text)"
    )
    assert second.startswith("b.yaml:5:14 template.max_turns no row has a column trns for {trns}; did you mean turns?")
    assert third == (
        "b.yaml:6:12 template.vm_size is a mapping; give one of Fly's presets, or a {column}; a text that begins with "
        "{ goes in quotes"
    )
    assert problems(ROWS.replace("size: shared-cpu-2x", "size: null").replace("turns: 7, ", "")) == [
        "b.yaml:9:59 rows[1].size is empty; give a text or a number ('' for none), or leave it out"
    ]
    text = ROWS.replace("turns: 7, ", "")
    assert problems(text) == ["b.yaml:9:5 rows[1] has no column 'turns'"]
    text = ROWS.replace("turns: 5", "turns: many").replace("shared-cpu-2x", "huge").replace("repo: web", "repo: 'a b'")
    assert [one[:60] for one in problems(text)] == [
        "b.yaml:8:5 rows[0].max_turns Input should be a valid integer",
        "b.yaml:9:5 rows[1].repos.url 'https://github.com/o/a b' has ",
    ]


CSV = """\
path,repo,max_turns,tag,model,image
"src/a, b.py",https://github.com/o/x,5,one,,cat.png
c.py,,,two,opus,dog.png

"""


def test_a_csv_file_is_a_batch() -> None:
    """Columns named like fields are those fields unless the prompt uses them; an empty cell says nothing."""
    first, second = read(CSV, "b.csv", prompt="Describe {image} in {path}, not {{path}}").requests
    assert (first.tag, first.config.prompt) == ("one", "Describe cat.png in src/a, b.py, not {path}")
    assert (first.config.repo_specs, first.config.max_turns) == ((RepoSpec("https://github.com/o/x"),), 5)
    assert (first.config.model, first.config.image) == (None, second.config.image)
    assert second.config.model_fields_set == {"prompt", "model"}
    (given_,) = read("repo,prompt\nx,Do {it}\n", "b.csv", repos=["https://h/o/{repo}", "https://h/o/lib"]).requests
    assert [repo.url for repo in given_.config.repo_specs] == ["https://h/o/x", "https://h/o/lib"]
    assert given_.config.prompt == "Do {it}"


CSV_MISTAKES = {
    "no prompt": ("path\na\n", {}, 'b.csv:1:1 no prompt; give --prompt "Replace {old} by {new}"'),
    "an unknown column": (
        "path\na\n",
        {"prompt": "x {pth}"},
        "--prompt: no row has a column pth for {pth}; did you mean path?",
    ),
    "a column that is no word": (
        "file name\na\n",
        {"prompt": "{file name}"},
        "--prompt: the column 'file name' cannot be put in by its name; call it file_name",
    ),
    "no rows": ("path\n", {"prompt": "x"}, "b.csv:2:1 no rows; the first line names the columns"),
    "nothing": ("", {"prompt": "x"}, "b.csv:1:1 no rows; the first line names the columns"),
    "semicolons": ("a;b\n1;2\n", {"prompt": "x"}, "b.csv:1:1 one column; columns are separated by commas"),
    "a column without a name": ("a,\n1,2\n", {"prompt": "x"}, "b.csv:1:1 column 2 has no name"),
    "a column twice": ("a,a\n1,2\n", {"prompt": "x"}, "b.csv:1:1 the column 'a' is there twice; rename one of them"),
    "an open quote": ('a\n"x\ny\n', {"prompt": "x"}, "b.csv:3:1 no CSV: unexpected end of data"),
    "a value that does not fit": (
        "max_turns\n1\n\n\nx\n",
        {"prompt": "x"},
        "b.csv:5:1 rows[1].max_turns 'x' does not fit: Input",
    ),
    "a repository that is none": (
        "repo\nx\n",
        {"prompt": "x"},
        "b.csv:2:1 rows[0].repo 'x' does not fit: 'x' is not a repo",
    ),
    "an empty tag": ("tag,a\n,1\n", {"prompt": "x"}, "b.csv:2:1 rows[0].tag is empty; give every row a tag, or none"),
    "a tag of two lines": ('tag,a\n"x\ny",1\n', {"prompt": "x"}, "b.csv:2:1 rows[0].tag 'x\\ny' is not on one line"),
    "a repository for all that is none": (
        "a\nb\n",
        {"prompt": "x", "repos": ["y"]},
        "--repo: 'y' is not a repository's address",
    ),
}


@pytest.mark.parametrize(("text", "given_", "message"), CSV_MISTAKES.values(), ids=CSV_MISTAKES)
def test_a_mistake_in_csv_is_told_at_its_line(text: str, given_: dict[str, object], message: str) -> None:
    """Each of the usual mistakes has one line, with the row's place or the option's name."""
    (found,) = problems(text, "b.csv", **given_)
    assert found.startswith(message)


def test_options_for_csv_are_for_csv() -> None:
    """A prompt on the command line would be lost on a file that has its own."""
    assert problems("tasks: [{prompt: x}]", prompt="y", repos=["https://h/o/x"]) == [
        "--prompt: goes with a CSV file alone; write it into the file",
        "--repo: goes with a CSV file alone; write it into the file",
    ]


_CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries({"a": _CELL, "b": _CELL}), min_size=1, max_size=4))
def test_rows_are_those_of_expand(rows: list[dict[str, str]]) -> None:
    """The same rows make the same requests in a batch file and in a program, whatever is in them."""
    template = {"prompt": "Do {a} with {b}", "append_system_prompt": "{{a}} is {a}"}
    text = json.dumps({"rows": rows, "template": template})
    assert list(read(text, "b.json").requests) == expand(template, rows)
