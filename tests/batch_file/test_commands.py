"""`flaude check` and `flaude schema`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.batch_file.reading import CANARY
from tests.batch_file.test_tasks import CSV, MATRIX, SMALLEST

from flaude.batch_file import json_schema
from flaude.cli import application

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def flaude(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Calls the command in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str, **files: str) -> tuple[int, str, str]:
        for name, text in files.items():
            Path(name.replace("_", ".")).write_text(text)
        with pytest.raises(SystemExit) as ended:
            application()(list(arguments))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_what_would_be_run(flaude: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right file is a table of its tasks, the machines, their pace, and what they can cost at most; exit code 0."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "x")
    code, out, err = flaude("check", "b.yaml", b_yaml=SMALLEST)
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0] == "b.yaml: 1 task for the app my-app"
    assert lines[4].split("│")[1:-1] == [
        " auth-review  ",
        " Review the auth module for security issues ",
        " your-repo ",
        " default ",
        " shared-cpu-2x 4 GB iad,ewr,ord ",
    ]
    assert lines[6:] == [
        "machines  1, one for each task; at most 1 at once",
        "pace      all at once",
        "agents    no bound: 1 task without max_budget_usd, and no budget",
        "Fly       at most $0.31: 1 task with 3 attempts each, 2h22m at the longest, at Fly's prices of 2026-10-09",
    ]


def test_what_is_the_same_for_all_is_said_once(flaude: Command) -> None:
    """A column with one value is a line; tags are whole, at any width; who lacks credentials is told."""
    text = MATRIX + "max_concurrency: 5\nbudget: 20\nmax_machine_seconds: 1h\n"
    code, out, err = flaude(
        "check", "b.yaml", "--app", "other", b_yaml=text.replace("max_turns: 3", "max_budget_usd: 1")
    )
    assert code == 0
    assert "machine   shared-cpu-2x 4 GB iad,ewr,ord" in out and "12 tasks for the app other" in out
    assert "│ Write-the-docs-api-v2-sonnet │ Write the docs" in out
    out = " ".join(out.split())
    assert "the first 5 within 3s, each of the other 7 when one has ended" in out
    assert "at most $12.00, by max_budget_usd" in out
    assert "1h10m of all machines, by max_machine_seconds and what collecting takes" in out
    assert err == (
        "note: 12 tasks without Claude Code credentials; set CLAUDE_CODE_OAUTH_TOKEN or ANTHROPIC_API_KEY before you "
        "run this\n"
    )


def test_raised_limits(flaude: Command) -> None:
    """Who has higher limits at Fly says so in the file, and the pace is that."""
    code, out, _ = flaude("check", "b.yaml", b_yaml=MATRIX + "app: my-app\nshards: 2\nrate_limits: 2.5\n")
    assert code == 0
    assert "5 machines a second in 2 apps, which is what rate_limits says of Fly's limit: all within" in " ".join(
        out.split()
    )
    code, _, err = flaude("check", "b.yaml", b_yaml=MATRIX + "app: my-app\nrate_limits: 0\n")
    assert code == 2 and "rate_limits" in err


def test_a_batch_that_is_spread(flaude: Command) -> None:
    """The apps are named, and their pace is the sum of theirs; --app may make names too long."""
    text = MATRIX + "app: my-app\nshards: 3\nkeep_shards: false\n"
    code, out, _ = flaude("check", "b.yaml", b_yaml=text)
    assert code == 0 and "12 tasks for the 3 apps my-app to my-app-3" in out
    assert "3 machines a second in 3 apps, which is Fly's limit: all within 2s" in " ".join(out.split())
    _, out, _ = flaude("check", "b.yaml", b_yaml=text.replace("3", "64"))
    assert "created if they are missing: 1m1s if all are" in out
    _, out, _ = flaude("check", "b.yaml", "--json", b_yaml=text)
    told = json.loads(out)
    assert (told["app"], told["apps"]) == ("my-app", ["my-app", "my-app-2", "my-app-3"])
    assert (told["forecast"]["shards"], told["forecast"]["last_create_s"]) == (3, 2)
    code, _, err = flaude("check", "b.yaml", "--app", "x" * 62)
    assert code == 2 and " shards the last one would be " in err


def test_narrow_terminals(flaude: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer than the terminal, as long as that has room for a table at all."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = flaude("check", "b.yaml", b_yaml=MATRIX + "app: my-app\n")
    assert code == 0 and max(map(len, out.splitlines())) <= 80


def test_hostile_tasks_are_printed_and_nothing_more(flaude: Command) -> None:
    """A prompt with markup, or with codes for the terminal, is text."""
    text = 'app: a\ntasks: [{tag: "[red]x[/]", prompt: "[bold]y \\e[2J \\u202e z"}]'
    code, out, _ = flaude("check", "b.yaml", b_yaml=text)
    assert code == 0
    assert "[red]x[/]" in out and "[bold]y \\x1b[2J \\u202e z" in out
    assert "\x1b" not in out and "\u202e" not in out


def test_what_is_wrong(flaude: Command) -> None:
    """A wrong file is a line for each mistake on stderr, nothing on stdout, and exit code 2."""
    code, out, err = flaude("check", "b.yaml", b_yaml=SMALLEST.replace("tag", "tga").replace("prompt", "promt"))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "2 things are wrong:",
        "b.yaml:6:5 tasks[0].tga no such field; did you mean tag?",
        "b.yaml:7:5 tasks[0].promt no such field; did you mean prompt?",
    ]


def test_json(flaude: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object on one line, right or wrong; no secret is in it."""
    monkeypatch.setenv("GITHUB_TOKEN", CANARY)
    text = SMALLEST.replace("  repos", "  github_token: {env: GITHUB_TOKEN}\n  repos")
    code, out, _ = flaude("check", "b.yaml", "--json", b_yaml=text)
    told = json.loads(out)
    assert code == 0 and CANARY not in out
    assert told["tasks"] == [
        {
            "tag": "auth-review",
            "name": None,
            "prompt": "Review the auth module for security issues",
            "repos": [{"url": "https://github.com/your-org/your-repo", "branch": ""}],
            "model": None,
            "region": "iad,ewr,ord",
            "machine": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 4096},
            "max_budget_usd": None,
        }
    ]
    assert (told["app"], told["forecast"]["agents_usd"], told["without_credentials"]) == ("my-app", None, 1)
    code, out, err = flaude("check", "b.yaml", "--json", b_yaml="app: x")
    assert (code, err) == (2, "")
    assert json.loads(out)["problems"] == [
        {
            "file": "b.yaml",
            "line": 1,
            "column": 1,
            "field": "",
            "message": "has none of tasks, matrix, rows; give one of them",
        }
    ]


def test_csv_takes_its_template_from_the_command_line(flaude: Command) -> None:
    """Rows, a prompt and a repository are a batch."""
    arguments = ("--app", "my-app", "-p", "Describe {image} in {path}", "--repo", "https://h/o/x", "--json")
    code, out, _ = flaude("check", "b.csv", *arguments, b_csv=CSV)
    assert code == 0
    assert [(task["tag"], task["prompt"]) for task in json.loads(out)["tasks"]] == [
        ("one", "Describe cat.png in src/a, b.py"),
        ("two", "Describe dog.png in c.py"),
    ]


def test_the_schema_is_printed(flaude: Command) -> None:
    """`flaude schema` prints the schema and nothing else."""
    code, out, err = flaude("schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == json_schema()


@pytest.mark.parametrize(
    ("arguments", "text", "tags"),
    [
        ((), ' {"app": "a", "tasks": [{"tag": "j", "prompt": "x"}]}', ["j"]),
        ((), SMALLEST, ["auth-review"]),
        (("--format", "jsonl", "--app", "a"), '{"tag": "l", "prompt": "x"}\n', ["l"]),
    ],
)
def test_standard_input(
    flaude: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    text: str,
    tags: list[str],
) -> None:
    """`-` is standard input: JSON when it begins with a brace, else YAML, else what --format says."""
    (tmp_path / "in").write_text(text)
    with (tmp_path / "in").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, _ = flaude("check", "-", "--json", *arguments)
    assert code == 0 and [task["tag"] for task in json.loads(out)["tasks"]] == tags


def test_a_process_that_reads_a_pipe(tmp_path: Path) -> None:
    """The command as a process: what is wrong with standard input has its name, and there is no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "flaude", "check", "-"],
        check=False,
        input="app: a\ntasks: [{prompt: x, promt: y}]\n",
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "<stdin>:2:21 tasks[0].promt no such field; did you mean prompt?\n"


def test_an_option_that_there_is_not_is_no_file(flaude: Command) -> None:
    """A misspelt option is not taken for the file, as `-` is."""
    code, out, err = flaude("check", "--jsn")
    assert (code, out) == (2, "") and "there is no option --jsn" in err


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("app: a\ndefaults: {region: [iad, lhr]}\ntasks: [{tag: t, prompt: x}]\n", "b.yaml"),
        ("app: a\ntasks: [{tag: t, prompt: x, region: 'iad, lhr'}]\n", "b.yaml"),
        ('{"app": "a", "tasks": [{"tag": "t", "prompt": "x", "region": ["iad", "lhr"]}]}', "b.json"),
        ('app = "a"\n[[tasks]]\ntag = "t"\nprompt = "x"\nregion = ["iad", "lhr"]\n', "b.toml"),
        ('tag,prompt,region\nt,x,"iad,lhr"\n', "b.csv"),
    ],
)
def test_several_regions(flaude: Command, text: str, name: str) -> None:
    """A list of regions, or one with commas, in every format; the schema has both, and what is none is told by name."""
    arguments = ("check", name, "--app", "my-app", "--json")
    code, out, err = flaude(*arguments, **{name.replace(".", "_"): text})
    assert code == 0, err
    (task,) = json.loads(out)["tasks"]
    assert task["region"] == "iad,lhr"
    code, out, _ = flaude(*arguments, **{name.replace(".", "_"): text.replace("lhr", "us-east-1")})
    assert code == 2 and "region" in json.loads(out)["problems"][0]["field"]


def test_a_batch_beside_the_limit_is_told(flaude: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """More machines at once than a new account may have are a note, without a token and a network too."""
    rows = "".join(f"t{number},x\n" for number in range(30))
    code, _, err = flaude("check", "b.csv", "--app", "my-app", b_csv=f"tag,prompt\n{rows}")
    assert code == 0 and "note: up to 30 machines at once: an account may have 20 to 50 at first" in err
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLY_API_TOKEN", "x")
    code, out, _ = flaude("check", "b.csv", "--app", "my-app", "--json", b_csv=f"tag,prompt\n{rows}")
    assert code == 0 and "up to 30 machines" in json.loads(out)["machine_limit"]
