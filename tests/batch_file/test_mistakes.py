"""What is wrong with the fields of a batch: all of it at once, each with its place and the fix."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.batch_file.reading import CANARY, problems, read

from flaude import ConfigError
from flaude.batch_file import BatchFileError, load
from flaude.batch_file.problems import Problem

EVERYTHING = """\
ap: my-app
max_concurency: -5
wait_timeout: 10 minutes
model: opus
retries: {more: 1, kind: [capacity], kinds: [capacty]}
timeouts: {boot: 5m, idel: 3}
defaults:
  repos: https://github.com/your-org/your-repo
  github_token: ghp_canary0123456789
  anthropic_api_key: {env: $KEY}
  claude_code_oauth_token: ${CLAUDE_TOKEN}
  vm_size: performance-2
  transcript: yes
  env:
    PORT: 8080
    X: {env: NOT_SET}
tasks:
  - tag: auth-review
    promt: Review the auth module
    max_turn: 5
    budget: 5
  - tag: auth-review
    prompt: {x}
    max_turns: "5"
    max-budget-usd: 2
  - prompt: 1.10
    prompt_file: nowhere.md
    repos:
      - url: https://user:ghp_canary0123456789@github.com/a/b
      - {url: "https://github.com/a/b", branch: 1.10, brnch: x}
      - 5
  - prompt_file: nowhere.md
    metadata: {a b: x, managed_by: y}
    claude_args: [--model, x]
    region: Mars
  - Review it
  - prompt:
    max_turns: 0
    name: My Machine
"""

ALL_OF_IT = """\
b.yaml:1:1 ap no such field; did you mean app?
b.yaml:2:1 max_concurency no such field; did you mean max_concurrency?
b.yaml:3:15 wait_timeout '10 minutes' is no duration; give seconds, or a text such as 90s, 10m or 1h30m
b.yaml:4:1 model belongs into `defaults`, or into a task
b.yaml:5:20 retries.kind no such field; did you mean kinds?
b.yaml:5:46 retries.kinds[0] there is no 'capacty'; did you mean capacity?
b.yaml:6:22 timeouts.idel no such field; did you mean idle?
b.yaml:8:10 defaults.repos is a text; give a list of repositories: [https://github.com/org/repo]
b.yaml:9:17 defaults.github_token a secret is not written into a file; put it into an environment variable, and write \
its name: {env: GITHUB_TOKEN}
b.yaml:10:28 defaults.anthropic_api_key.env does not fit; give a variable's name, such as GITHUB_TOKEN (without $)
b.yaml:11:28 defaults.claude_code_oauth_token a secret is not written into a file; put it into an environment \
variable, and write its name: {env: CLAUDE_TOKEN}
b.yaml:12:12 defaults.vm_size there is no 'performance-2'; did you mean performance-2x or performance-12x?
b.yaml:13:15 defaults.transcript 'yes' is a text; write true, without quotes
b.yaml:15:11 defaults.env.PORT 8080 is a number; to make it a text, put it in quotes: "8080"
b.yaml:16:8 defaults.env.X environment variable NOT_SET: not set; `export NOT_SET=…` before you run this
b.yaml:19:5 tasks[0].promt no such field; did you mean prompt?
b.yaml:20:5 tasks[0].max_turn no such field; did you mean max_turns?
b.yaml:21:5 tasks[0].budget belongs to the top of the file, beside `tasks`; what one task may cost is max_budget_usd
b.yaml:22:10 tasks[1].tag 'auth-review' is the tag in line 18 too; results are found by their tags, so give another one
b.yaml:23:13 tasks[1].prompt is a mapping; give a text; a text that begins with { goes in quotes
b.yaml:24:16 tasks[1].max_turns is a text; give a whole number from 1, without quotes
b.yaml:25:5 tasks[1].max-budget-usd no such field; did you mean max_budget_usd?
b.yaml:26:13 tasks[2].prompt 1.10 is a number; to make it a text, put it in quotes: "1.10"
b.yaml:27:18 tasks[2].prompt_file stands beside prompt; give one of them
b.yaml:29:14 tasks[2].repos[0].url holds credentials; remove them and use github_token
b.yaml:30:49 tasks[2].repos[1].branch 1.10 is a number; to make it a text, put it in quotes: "1.10"
b.yaml:30:55 tasks[2].repos[1].brnch no such field; did you mean branch?
b.yaml:31:9 tasks[2].repos[2] is 5; give a repository's address, or {url, branch, target_dir}
b.yaml:32:18 tasks[3].prompt_file 'nowhere.md': there is no such file
b.yaml:33:15 tasks[3].metadata 'a b' is no name; use letters, digits, '_', '-' and '.'
b.yaml:33:15 tasks[3].metadata managed_by is set by flaude or Fly; choose another name
b.yaml:34:18 tasks[3].claude_args for --model use the field model
b.yaml:35:13 tasks[3].region does not fit: a region's code such as iad, several of them (iad,ewr,ord), or one of apac, \
eu, na, sa, us, usa, any
b.yaml:36:5 tasks[4] is a text; give a task such as {tag: auth-review, prompt: Review the auth module}
b.yaml:37:5 tasks[5].prompt is empty; give a text, or leave it out
b.yaml:38:16 tasks[5].max_turns is 0; give a whole number from 1
b.yaml:39:11 tasks[5].name does not fit; give up to 63 of a-z, 0-9 and '-'
"""


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """A file with dozens of mistakes is told all of them, each at its place, and no secret of it."""
    found = problems(EVERYTHING, app=None)
    assert "\n".join(found) + "\n" == ALL_OF_IT
    assert CANARY not in "\n".join(found)


def test_the_error_is_a_config_error_with_its_problems() -> None:
    """Programs find every problem in its parts; people find them all in the message."""
    with pytest.raises(ConfigError) as caught:
        read("tasks:\n  - promt: x\n    max_turn: 1\n")
    assert isinstance(caught.value, BatchFileError)
    assert caught.value.problems[1] == Problem(
        "b.yaml", 3, 5, "tasks[0].max_turn", "no such field; did you mean max_turns?"
    )
    assert str(caught.value).startswith("2 things are wrong:\nb.yaml:2:5 tasks[0].promt no such field")


def test_nobody_is_told_of_more_than_they_read() -> None:
    """Of a thousand mistakes the first fifty are printed, and a million are not looked for."""
    with pytest.raises(BatchFileError) as caught:
        read("".join(f"k{index}: 1\n" for index in range(1200)))
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (52, "1000 and more things are wrong:", "and 950 more")


ONE = {
    "no tasks": ("app: x", "b.yaml:1:1 has none of tasks, matrix, rows; give one of them"),
    "empty tasks": ("tasks: []", "b.yaml:1:8 tasks is empty; give a list of tasks"),
    "tasks of nothing": (
        "tasks:",
        "b.yaml:1:1 tasks is empty; give a list of tasks, each after a `- `, or leave it out",
    ),
    "tasks by name": (
        "tasks: {a: {prompt: x}}",
        "b.yaml:1:8 tasks is a mapping; give a list of tasks, each after a `- `",
    ),
    "tasks alone": ("- prompt: x", "b.yaml:1:1 is a list; give a mapping with `app` and `tasks`"),
    "a text alone": ("Review it", "b.yaml:1:1 is a text; give a mapping with `app` and `tasks`"),
    "nothing": (" \n", "b.yaml:1:1 is empty; the smallest batch has `app` and `tasks`"),
    "comments alone": ("# x\n", "b.yaml:1:1 is empty; the smallest batch has `app` and `tasks`"),
    "no UTF-8": (b"a: b\nc: \xfc", "b.yaml:2:4 byte 0xfc is no UTF-8; save the file as UTF-8"),
    "UTF-16": ("a: b".encode("utf-16"), "b.yaml:1:1 is UTF-16; save the file as UTF-8"),
    "no prompt": ("tasks: [{tag: a}]", "b.yaml:1:9 tasks[0].prompt is missing; give prompt or prompt_file, here or in"),
    "a blank prompt": ("tasks: [{prompt: ' '}]", "b.yaml:1:18 tasks[0].prompt empty; say what the agent is to do"),
    "a tag of two lines": (
        'tasks: [{prompt: x, tag: "a\\nb"}]',
        "b.yaml:1:26 tasks[0].tag does not fit; give a text on",
    ),
    "a tag that is a number": (
        "tasks: [{prompt: x, tag: 007}]",
        "b.yaml:1:26 tasks[0].tag 007 is a number; to make it",
    ),
    "the same machine twice": (
        "tasks: [{prompt: x, name: m}, {prompt: y, name: m}]",
        "b.yaml:1:49 tasks[1].name 'm' is the name in line 1 too; machines are told apart by their names",
    ),
    "dashes without spaces": (
        "tasks:\n  -tag: a\n  -prompt: x",
        "b.yaml:2:3 tasks is a mapping; give a list of tasks, each after a `- `",
    ),
    "a secret elsewhere": (
        "tasks: [{prompt: x, model: {env: M}}]",
        "b.yaml:1:28 tasks[0].model is a mapping; give a text",
    ),
    "no app of Fly's": (
        "app: My_App\ntasks: [{prompt: x}]",
        "b.yaml:1:6 app does not fit; give an app's name: up to 63 of",
    ),
    "too many shards": (
        "shards: 65\ntasks: [{prompt: x}]",
        "b.yaml:1:9 shards is 65; give a whole number from 1 up to 64",
    ),
    "shards of a task": (
        "tasks: [{prompt: x, shards: 2}]",
        "b.yaml:1:21 tasks[0].shards belongs to the top of the file, beside `tasks`",
    ),
    "too short a duration": (
        "wait_timeout: 0s\ntasks: [{prompt: x}]",
        "b.yaml:1:15 wait_timeout is 0s; give a number above 0",
    ),
    "too long a patience": (
        "timeouts: {orphan: 5m}\ntasks: [{prompt: x}]",
        "b.yaml:1:11 timeouts.patience 300 s is too long for orphan=300",
    ),
    "a budget without those of the tasks": (
        "budget: 5\ntasks: [{prompt: x, max_budget_usd: 1}, {prompt: a}, {prompt: b}, {prompt: c}, {prompt: d}]",
        "b.yaml:1:9 budget needs max_budget_usd in every task, because each launch reserves what its agent may cost",
    ),
    "a template without rows": (
        "template: {prompt: x}\ntasks: [{prompt: x}]",
        "b.yaml:1:11 template there are no rows",
    ),
    "rows of another kind": (
        "rows: x.xlsx\ndefaults: {prompt: x}",
        "b.yaml:1:7 rows 'x.xlsx' is neither a .csv nor a .jsonl",
    ),
    "rows that are not there": ("rows: x.csv\ndefaults: {prompt: x}", "b.yaml:1:7 rows 'x.csv': there is no such file"),
    "names that move the cursor": (
        'tasks: [{prompt: x, "\\e[2J\\n": 1}]',
        "b.yaml:1:21 tasks[0].\\x1b[2J\\n no such field",
    ),
    "a default that one task cannot have": (
        "defaults: {vm_memory_mb: 512, vm_size: shared-cpu-2x, prompt: x}\ntasks: [{}, {vm_size: performance-1x}]",
        "b.yaml:2:23 tasks[1].vm_size with vm_memory_mb of defaults: 1 performance CPUs take 2048 to 8192 MB",
    ),
    "a default that no task can have": (
        "defaults: {vm_memory_mb: 5}\ntasks: [{prompt: x}, {prompt: y}]",
        "b.yaml:1:26 defaults.vm_memory_mb 2 shared CPUs take 512 to 4096 MB",
    ),
    "one place, two fields": (
        "tasks: [{prompt: x, repos: ['https://h/a/x', 'https://h/b/x']}]",
        "b.yaml:1:46 tasks[0].repos[1] https://h/b/x and https://h/a/x would both land in x",
    ),
}


@pytest.mark.parametrize(("text", "message"), ONE.values(), ids=ONE)
def test_one_mistake_is_told_once(text: str | bytes, message: str) -> None:
    """Each mistake has one line, and nothing that follows from it has another."""
    (found,) = problems(text)
    assert found.startswith(message)


def test_what_depends_on_a_broken_field_is_not_told() -> None:
    """A size that is none makes no memory wrong, and a token that is not set no push; the rest is told all the same."""
    text = (
        "tasks: [{prompt: x, vm_size: big, vm_memory_mb: 256, push_branch: b, repos: ['https://h/a/x'], "
        "github_token: {env: N}, metadata: {a b: c}}]"
    )
    assert [re.split(" ", found)[1] for found in problems(text)] == [
        "tasks[0].vm_size",
        "tasks[0].github_token",
        "tasks[0].metadata",
    ]


@pytest.mark.parametrize(
    ("name", "literal", "reference"),
    [
        ("b.yaml", "tasks: [{prompt: x, github_token: ghp_canary0123456789}]", "{env: GITHUB_TOKEN}"),
        ("b.toml", '[[tasks]]\nprompt = "x"\ngithub_token = "ghp_canary0123456789"', '{ env = "GITHUB_TOKEN" }'),
        ("b.json", '{"tasks": [{"prompt": "x", "github_token": "ghp_canary0123456789"}]}', '{"env": "GITHUB_TOKEN"}'),
    ],
)
def test_a_secret_is_written_as_its_format_writes_it(name: str, literal: str, reference: str) -> None:
    """A secret that stands in the file is refused with what to write instead, and is not repeated."""
    (found,) = problems(literal, name)
    assert found.endswith(reference) and CANARY not in found
    right = read(
        literal.replace(f'"{CANARY}"', reference).replace(CANARY, reference), name, environ={"GITHUB_TOKEN": CANARY}
    )
    assert right.requests[0].config.github_token.get_secret_value() == CANARY  # type: ignore[union-attr]
    assert CANARY not in repr(right)


def test_the_app_may_come_from_three_places() -> None:
    """The command's comes first, then the file's, then the environment's; without any, all three are named."""
    text = "tasks: [{prompt: x}]"
    assert read(f"app: theirs\n{text}", app="mine", environ={"FLY_APP": "other"}).settings.app == "mine"
    assert read(f"app: theirs\n{text}", app=None, environ={"FLY_APP": "other"}).settings.app == "theirs"
    assert read(text, app=None, environ={"FLY_APP": "other"}).settings.app == "other"
    assert problems(text, app=None) == ["b.yaml:1:1 app is missing; write it into the file, give --app, or set FLY_APP"]
    assert problems(text, app="") == ["--app: '' is not a valid app name; use up to 63 of a-z, 0-9 and '-'"]
    assert problems(text, app=None, environ={"FLY_APP": "A"}) == [
        "FLY_APP: 'A' is not a valid app name; use up to 63 of a-z, 0-9 and '-'"
    ]


async def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, a folder, a suffix that says nothing, too much: one clear sentence each."""

    async def trouble(path: Path) -> str:
        with pytest.raises(BatchFileError) as caught:
            await load(path, environ={})
        return str(caught.value).removeprefix(f"{path}: ")

    assert await trouble(tmp_path / "no.yaml") == "there is no such file"
    assert await trouble(tmp_path) == "is a directory; give a file"
    assert await trouble(Path("a\0b.yaml")) == "a\\x00b.yaml: is no path"
    assert await trouble(Path("/dev/zero")) == "has more than 20 MB"
    assert (await trouble(Path(os.devnull))).startswith("its suffix (none) says no format; use .yaml, .yml, .toml,")
    if os.geteuid():  # root may read everything
        (tmp_path / "secret.yaml").write_text("")
        (tmp_path / "secret.yaml").chmod(0)
        assert await trouble(tmp_path / "secret.yaml") == "may not be read: permission denied"
