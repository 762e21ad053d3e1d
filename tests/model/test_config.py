from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from flaude import ConcurrentExecutor, ConfigError, ExecutionRequest, MachineConfig, RepoSpec, Timeouts
from flaude._model.machine_sizes import PRESETS, MachineSize, machine_size

CANARY = "sk-ant-oat-canary-0123456789"


def make(**fields: Any) -> MachineConfig:
    """A config with a prompt."""
    return MachineConfig(**{"prompt": "do it", **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "  \n"}, "prompt: empty"),
        ({"prompt": None}, "prompt: "),
        ({"prompt": "a\0b"}, "prompt: holds a NUL"),
        ({"promt": "x"}, "promt: MachineConfig has no such field"),
        ({"vm_size": "huge-9x"}, "vm_size: Fly has no size 'huge-9x'; it has shared-cpu-1x"),
        ({"vm_cpus": 5}, "vm_cpus: shared machines have 1, 2, 4"),
        ({"vm_memory_mb": 1000}, "vm_memory_mb: 2 shared CPUs take 512 to 4096 MB in steps of 256, not 1000"),
        (
            {"vm_size": "performance-2x", "vm_memory_mb": 1024},
            "vm_memory_mb: 2 performance CPUs take 4096 to 16384 MB in steps of 2048, not 1024",
        ),
        ({"rootfs_gb": 0}, "rootfs_gb: "),
        ({"region": "Mars!"}, "region: "),
        ({"image": "no image"}, "image: "),
        ({"max_turns": 0}, "max_turns: "),
        ({"max_budget_usd": -1}, "max_budget_usd: "),
        ({"env": {"HOME": "/x"}}, "env: HOME is set by flaude"),
        ({"env": {"FLAUDE_X": "1"}}, "env: FLAUDE_X is set by flaude"),
        ({"env": {"ANTHROPIC_API_KEY": "k"}}, "use the field anthropic_api_key"),
        ({"env": {"A B": "k"}}, "env: 'A B' is no name"),
        ({"metadata": {"managed_by": "me"}}, "metadata: managed_by is set by flaude"),
        ({"metadata": {"flaude_batch": "me"}}, "metadata: flaude_batch is set by flaude"),
        ({"metadata": {"a b": "me"}}, "metadata: 'a b' is no name"),
        ({"claude_args": ["--output-format=text"]}, "claude_args: --output-format is set by flaude"),
        ({"claude_args": ["--model", "x"]}, "claude_args: for --model use the field model"),
        ({"json_schema": "{"}, "json_schema: not valid JSON"),
        ({"mcp_config": [1]}, "mcp_config: give a JSON object"),
        ({"allowed_tools": "Bash"}, "allowed_tools: "),
        ({"repos": "https://github.com/a/b"}, "repos: give a list"),
        ({"repos": [7]}, "repos[0]: give a URL or a RepoSpec"),
        ({"repos": ["https://h/a/x", "https://h/b/x.git"]}, "repos[1].target_dir: "),
        (
            {"repos": [RepoSpec("https://h/a", target_dir="sub"), RepoSpec("https://h/b", target_dir="sub/deep")]},
            "repos[1].target_dir: ",
        ),
        ({"collect": ["../x"]}, "collect: '../x' leads out of the working folder"),
        ({"collect": ["a/../../x"]}, "collect: 'a/../../x' leads out"),
        ({"collect": ["/etc/*"]}, "collect: '/etc/*' leads out"),
        ({"collect": ["~/x"]}, "collect: '~/x' leads out"),
        ({"collect": ["a\0b"]}, "collect: 'a\\x00b' leads out"),
        ({"collect": "*.html"}, "collect: "),
        ({"collect": [""]}, "collect: give a list of non-empty strings"),
        ({"max_patch_mb": 0}, "max_patch_mb: "),
        ({"max_artifacts_mb": 0}, "max_artifacts_mb: "),
        ({"repos": [{"url": "https://h/a", "brunch": "x"}]}, "repos[0]: only url, branch and target_dir"),
    ],
)
def test_bad_config_names_the_field(fields: dict[str, Any], message: str) -> None:
    """A wrong config is refused when it is made, with the field's name and what is right."""
    with pytest.raises(ConfigError) as caught:
        make(**fields)
    assert message in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Values that are wrong, each or together, are all in one error: in its message, and as field and sentence."""
    with pytest.raises(ConfigError) as caught:
        make(prompt=" ", vm_cpus=3, metadata={"a b": "x", "fly_x": "y"}, env={"HOME": "/"}, push_branch="b")
    assert [field for field, _ in caught.value.wrong] == [
        "prompt",
        "vm_cpus",
        "env",
        "push_branch",
        "metadata",
        "metadata",
    ]
    assert str(caught.value) == "; ".join(f"{field}: {sentence}" for field, sentence in caught.value.wrong)
    with pytest.raises(ConfigError) as caught:
        make(max_turns=0, region="Mars!")
    assert [field for field, _ in caught.value.wrong] == ["region", "max_turns"]
    assert ConfigError("app: no app").wrong == (("app", "no app"),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": ""}, "repos.url: empty"),
        ({"url": "not a url"}, "repos.url: "),
        ({"url": "https://github.com"}, "repos.url: "),
        ({"url": "ftp://host/repo"}, "repos.url: "),
        ({"url": "--upload-pack=evil"}, "repos.url: "),
        ({"url": "https://h/r", "branch": "--evil"}, "repos.branch: "),
        ({"url": "https://h/r", "branch": "a b"}, "repos.branch: "),
        ({"url": "https://h/r", "target_dir": "../out"}, "repos.target_dir: "),
        ({"url": "https://h/r", "target_dir": "/etc"}, "repos.target_dir: "),
        ({"url": "https://h/r", "target_dir": "."}, "repos.target_dir: "),
    ],
)
def test_bad_repo_names_the_field(arguments: dict[str, str], message: str) -> None:
    """A repository that cannot be cloned into the workspace is refused when it is made."""
    with pytest.raises(ConfigError) as caught:
        RepoSpec(**arguments)
    assert message in str(caught.value)


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    """A password in a repository's URL is an error that does not repeat it."""
    with pytest.raises(ConfigError) as caught:
        RepoSpec(f"https://me:{CANARY}@github.com/org/repo")
    assert "github_token" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://github.com/org/repo", "repo"),
        ("https://github.com/org/repo.git", "repo"),
        ("https://github.com/org/repo/", "repo"),
        ("git@github.com:org/repo.git", "repo"),
        ("file:///srv/repo.git", "repo"),
        ("file:///srv/repo/.git", "repo"),
    ],
)
def test_folder_is_the_repositorys_name(url: str, folder: str) -> None:
    """Without a target_dir a repository lands in a folder of its own name, as with git clone."""
    assert RepoSpec(url).folder == folder


def test_secrets_never_show_in_reprs_or_errors() -> None:
    """No repr, str or error of a config shows a secret, whichever field it stands in."""
    config = make(
        claude_code_oauth_token=CANARY,
        anthropic_api_key=SecretStr(CANARY),
        github_token=CANARY,
        env={"A_TOKEN": CANARY, "B": SecretStr(CANARY)},
        mcp_config={"key": CANARY},
    )
    assert CANARY not in repr(config)
    assert CANARY not in str(ExecutionRequest(config))
    assert CANARY not in config.model_dump_json(exclude={"env", "mcp_config"})
    with pytest.raises(ConfigError) as caught:
        make(claude_code_oauth_token=CANARY, github_token=[CANARY], max_turns=CANARY, prompt="")
    assert CANARY not in repr(caught.value)
    assert CANARY not in repr(caught.value.__cause__)


def test_config_is_frozen() -> None:
    """A config does not change once it is made."""
    config = make()
    with pytest.raises(ValueError, match="frozen"):
        config.prompt = "other"  # type: ignore[misc]


def test_repos_take_urls_specs_and_dicts() -> None:
    """All three ways to name a repository mean the same."""
    config = make(repos=["https://h/o/a", RepoSpec("https://h/o/b", "main"), {"url": "https://h/o/c"}])
    assert [repo.folder for repo in config.repo_specs] == ["a", "b", "c"]
    assert config.repo_specs[1].branch == "main"


@pytest.mark.parametrize(
    ("size", "cpus", "memory", "expected"),
    [
        ("shared-cpu-1x", None, None, ("shared", 1, 256)),
        ("shared-cpu-2x", None, 2048, ("shared", 2, 2048)),
        ("shared-cpu-2x", None, None, ("shared", 2, 4096)),
        ("shared-cpu-2x", 1, None, ("shared", 1, 2048)),
        ("shared-cpu-2x", 8, None, ("shared", 8, 4096)),
        ("shared-cpu-4x", None, None, ("shared", 4, 1024)),
        ("performance-2x", None, None, ("performance", 2, 4096)),
        ("performance-2x", 4, None, ("performance", 4, 8192)),
        ("shared-cpu-8x", 1, None, ("shared", 1, 2048)),
    ],
)
def test_vm_size_decides_the_guest(
    size: str, cpus: int | None, memory: int | None, expected: tuple[str, int, int]
) -> None:
    """vm_size decides cpu_kind, cpus and memory; the overrides are honoured."""
    made = machine_size(size, cpus, memory)
    assert (made.cpu_kind, made.cpus, made.memory_mb) == expected


def test_every_preset_is_allowed() -> None:
    """Each of Fly's presets passes Fly's own rules."""
    for name, preset in PRESETS.items():
        assert machine_size(name, None, preset.memory_mb) == preset


def test_the_default_size_is_what_every_account_may_have() -> None:
    """Two shared CPUs with 4 GB, said or not: no trial account may have more, or other CPUs (Fly docs, free trial)."""
    assert make().size == make(vm_size="shared-cpu-2x").size == MachineSize("shared", 2, 4096)
    assert make(vm_size="performance-2x").size == PRESETS["performance-2x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"app_name": ""}, "app_name: "),
        ({"app_name": "Not An App"}, "app_name: "),
        ({"max_concurrency": -1}, "max_concurrency: "),
        ({"wait_timeout": 0}, "wait_timeout: "),
        ({"max_auth_failures": -1}, "max_auth_failures: "),
        ({"max_auth_failures": 2.5}, "max_auth_failures: "),
        ({"max_auth_failures": True}, "max_auth_failures: "),
    ],
)
def test_bad_executor_arguments_name_themselves(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument of the executor is refused at once."""
    with pytest.raises(ConfigError) as caught:
        ConcurrentExecutor(**{"app_name": "my-app", **arguments})
    assert message in str(caught.value)


@pytest.mark.parametrize("limit", [None, 0, 1])
def test_no_limit_is_none_or_zero(limit: int | None) -> None:
    """max_concurrency of None or 0 means no limit."""
    ConcurrentExecutor("my-app", max_concurrency=limit)


def test_bad_machine_name_is_refused() -> None:
    """A machine name that Fly would not take is refused when the request is made."""
    with pytest.raises(ConfigError, match="name: 'A B'"):
        ExecutionRequest(make(), name="A B")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"orphan": 0}, "timeouts.orphan"),
        ({"grace": -1}, "timeouts.grace"),
        ({"idle": float("inf")}, "timeouts.idle"),
        ({"boot": float("nan")}, "timeouts.boot"),
        ({"linger": 1e17}, "timeouts.linger"),
        ({"collect": "10"}, "timeouts.collect"),
        ({"patience": 600}, "timeouts.patience: 600 s is too long for orphan=600"),
        ({"linger": 60}, "timeouts.patience: 300 s is too long for linger=60"),
    ],
    ids=["nothing", "negative", "infinite", "no number", "ages", "text", "more patience than orphan", "than linger"],
)
def test_bad_timeouts_name_themselves(fields: dict[str, Any], named: str) -> None:
    """A timeout is above 0 and finite; only `idle` can be switched off; no machine ends before its controller does."""
    Timeouts(idle=0)
    with pytest.raises(ConfigError, match=named):
        Timeouts(**fields)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("iad", ("iad",)),
        ("iad, ewr,iad", ("iad", "ewr")),
        (["iad", "eu"], ("iad", "eu")),
        (("fra",), ("fra",)),
        ("any", ("any",)),
        ("", ()),
    ],
)
def test_regions(region: Any, words: tuple[str, ...]) -> None:
    """A code, several, with commas or as a list, an alias, or Fly's choice; each once, and the same in both forms."""
    config = make(region=region)
    assert config.regions == words and config == make(region=",".join(words))


@pytest.mark.parametrize("region", ["IAD", "us-east-1", "iad,,ewr", "iad ewr", "Ashburn, Virginia", [], ["iad", ""], 5])
def test_what_is_no_region(region: Any) -> None:
    """What has not a region's form is refused here, by its field; "IAD" with what to write."""
    with pytest.raises(ConfigError, match="region: ") as caught:
        make(region=region)
    assert [field for field, _ in caught.value.wrong] == ["region"]
    assert "write iad" in str(caught.value) if region == "IAD" else "iad,ewr,ord" in str(caught.value)
