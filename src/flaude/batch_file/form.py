"""The form of a batch file: everything that may be in it."""

from __future__ import annotations

from functools import cache

from flaude._model.failures import FailureKind
from flaude._model.names import NAME, NAME_IN_WORDS
from flaude._model.placement import MOST_SHARDS
from flaude._model.retries import INFRASTRUCTURE, Retries
from flaude._model.settings import ExecutorSettings
from flaude._model.timeouts import LONGEST_S, MAY_BE_0, Timeouts
from flaude.batch_file.config_fields import PROMPT_FILE, REPO, config_fields, with_columns
from flaude.batch_file.docstrings import attributes
from flaude.batch_file.shapes import Duration, Either, Field, Fields, Flag, ListOf, MapOf, Nullable, Number, Text

PROMPT = ("prompt", "prompt_file")
"""Two ways to say the same."""

_TAG = Field(
    Text(
        "a text on one line that neither begins nor ends with a space, up to 200 characters",
        pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]{0,198}[^\x00-\x20\x7f])?$",
    ),
    "What the result is found by; made of the prompt, or of what differs, when it is left out. No two are the same.",
)
_NAME = Field(
    Text(NAME_IN_WORDS, pattern=f"^{NAME}$"),
    "Name of the Fly machine, unique among the living machines of the app; made up when it is left out.",
)

_AT_THE_TOP = (
    *("app", "shards", "keep_shards", "rate_limits", "max_concurrency", "max_machine_seconds"),
    *("wait_timeout", "retries", "timeouts", "output_dir"),
)
_ONE_NAME = "no two machines have the same name; give it in each task"
_IN_A_TASK = "belongs into `defaults`, or into a task"


@cache
def form() -> Fields:
    """The whole file."""
    config = config_fields()
    up = dict.fromkeys((*_AT_THE_TOP, "max_auth_failures"), "belongs to the top of the file, beside `tasks`")
    up["budget"] = "belongs to the top of the file, beside `tasks`; what one task may cost is max_budget_usd"
    task = Fields(
        "task",
        {"tag": _TAG, "name": _NAME, **config, "prompt_file": PROMPT_FILE},
        wanted="a task such as {tag: auth-review, prompt: Review the auth module}",
        description="One run: a prompt, and what is different for it.",
        not_both=PROMPT,
        elsewhere=up,
    )
    defaults = Fields(
        "defaults",
        {**config, "prompt_file": PROMPT_FILE},
        description="What every task has that does not say otherwise. `env` and `metadata` are put together by names, "
        "all else is replaced.",
        not_both=PROMPT,
        elsewhere={**up, "tag": "no two tasks have the same tag; give it in each task", "name": _ONE_NAME},
    )
    template = Fields(
        "template",
        {"tag": _TAG, **with_columns(config), "prompt_file": PROMPT_FILE},
        description="The task that each row makes: `{column}` in its texts, and in those of `defaults`, is the row's.",
        not_both=PROMPT,
        elsewhere={**up, "name": _ONE_NAME},
    )
    return Fields(
        "batch",
        {
            **_settings(),
            "defaults": Field(defaults),
            "tasks": Field(
                ListOf(task, wanted="a list of tasks, each after a `- `", least=1), "What to run, in this order."
            ),
            "matrix": Field(_matrix()),
            "rows": Field(
                Either(
                    (Text("a file's path", least=1, quotes=False), _rows()),
                    wanted="a list of rows, or the path of a CSV or JSONL file",
                ),
                "Rows of data, each of which makes a task of the template: a list, or a CSV or JSONL file.",
            ),
            "template": Field(template),
        },
        wanted="a mapping with `app` and `tasks`",
        description="A batch of Claude Code runs for `flaude run`.",
        some_of=("tasks", "matrix", "rows"),
        elsewhere=dict.fromkeys((*config, *PROMPT, "tag", "name"), _IN_A_TASK),
    )


def _rows() -> ListOf:
    cell = Either((Text("a text"), Number()), wanted="a text or a number ('' for none)")
    return ListOf(MapOf(cell, wanted="a row such as {repo: api, path: src/a.py}"), wanted="a list of rows", least=1)


def _matrix() -> Fields:
    prompt = Either(
        (
            Text("a prompt", least=1),
            Fields(
                "matrix_prompt",
                {"tag": _TAG, "prompt": config_fields()["prompt"], "prompt_file": PROMPT_FILE},
                wanted="a prompt, or {tag, prompt}",
                description="A prompt, and what the tags of its tasks call it.",
                some_of=PROMPT,
                not_both=PROMPT,
            ),
        ),
        wanted="a prompt, or {tag, prompt} or {tag, prompt_file}",
    )
    return Fields(
        "matrix",
        {
            "prompts": Field(
                ListOf(prompt, wanted="a list of prompts", least=1), "Prompts; without them that of `defaults`."
            ),
            "repos": Field(
                ListOf(REPO, wanted="a list of repositories", least=1),
                "Repositories, one for each task; without them those of `defaults`.",
            ),
            "models": Field(
                ListOf(Text("a model's name", least=1), wanted="a list of models", least=1),
                "Models; without them that of `defaults`.",
            ),
        },
        description="Every combination of a prompt, a repository and a model becomes a task.",
        some_of=("prompts", "repos", "models"),
    )


def _settings() -> dict[str, Field]:
    defaults = ExecutorSettings(app="")
    seconds = Duration(LONGEST_S)
    return {
        "$schema": Field(Text(), "Where the JSON Schema of this file is, for editors."),
        "app": Field(
            Text(f"an app's name: {NAME_IN_WORDS}", pattern=f"^{NAME}$"),
            "The Fly app to make the machines in; without it --app, or FLY_APP.",
        ),
        "shards": Field(
            Number(whole=True, least=1, most=MOST_SHARDS),
            "How many apps the machines are spread over: Fly creates one per second and app. With 3 they are `app`, "
            "`app-2` and `app-3`; flaude creates the extra apps if they are missing.",
            defaults.shards,
        ),
        "keep_shards": Field(
            Flag(),
            "Whether the extra apps stay when the batch has ended; otherwise flaude deletes them, except those that "
            "still have machines.",
            defaults.keep_shards,
        ),
        "rate_limits": Field(
            Number(above=0),
            "How many times Fly's published rate limits the account has: Fly raises them on request.",
            defaults.rate_limits,
        ),
        "max_concurrency": Field(
            Nullable(Number(whole=True, least=0)),
            "How many machines may be alive at once; null or 0 for no limit.",
        ),
        "budget": Field(
            Nullable(Number(above=0)),
            "What all agents together may cost, in US dollars; every task then needs max_budget_usd.",
        ),
        "max_machine_seconds": Field(
            Nullable(Duration(10 * LONGEST_S)),
            "How long all machines may be there together; then what is done is collected and the batch ends.",
        ),
        "wait_timeout": Field(seconds, "How long one run may take once its machine has booted.", defaults.wait_timeout),
        "retries": Field(
            Either((Number(whole=True, least=0), _retries()), wanted="a number, or {more, kinds, after_start, wait}"),
            "Which failed runs are tried again on a new machine; a number for that many more attempts.",
            Retries().more,
        ),
        "timeouts": Field(_timeouts()),
        "max_auth_failures": Field(
            Number(whole=True, least=0),
            "After so many runs in a row that failed to authenticate nothing more is launched; 0 for never.",
            defaults.max_auth_failures,
        ),
        "output_dir": Field(
            Text("a folder's path", least=1),
            "Where what `collect` and `transcript` ask for goes; relative to where flaude is started.",
            str(defaults.output_dir),
        ),
    }


def _retries() -> Fields:
    said = attributes(Retries)
    default = Retries()
    return Fields(
        "retries",
        {
            "more": Field(Number(whole=True, least=0), said.get("more", ""), default.more),
            "kinds": Field(
                ListOf(
                    Text("a kind of failure", choices=tuple(FailureKind), quotes=False),
                    wanted="a list of kinds of failure",
                ),
                said.get("kinds", ""),
                sorted(INFRASTRUCTURE),
            ),
            "after_start": Field(Flag(), said.get("after_start", ""), default.after_start),
            "wait": Field(Duration(LONGEST_S, zero=True), said.get("wait", ""), default.wait),
        },
        description="Which failed runs are tried again, each time on a new machine.",
    )


def _timeouts() -> Fields:
    said = attributes(Timeouts)
    fields = {
        name: Field(Duration(LONGEST_S, zero=name in MAY_BE_0), said.get(name, ""), one.default)
        for name, one in Timeouts.__dataclass_fields__.items()
    }
    return Fields("timeouts", fields, description="How long the parts of a run may take.")
