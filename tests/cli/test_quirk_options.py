"""`--quirk NAME=VALUE` of `flaude local serve`."""

from __future__ import annotations

import pytest

from flaude import ConfigError
from flaude.cli.quirk_options import quirks
from flaude.local import Quirks


def test_the_default_is_the_worst_reading_and_each_quirk_can_be_set() -> None:
    """Without options it is the worst reading, with `--kind` the best one, and each setting changes one of either."""
    assert quirks([], kind=False) == Quirks() and quirks([], kind=True) == Quirks.kind()
    settings = ["exec-stdin=yes", "largest_exec_body=none", "young_app_s=0.5", "machine_limit=7"]
    expected = Quirks(exec_stdin=True, largest_exec_body=None, young_app_s=0.5, machine_limit=7)
    assert quirks(settings, kind=False) == expected
    assert quirks(["serial_execs=true"], kind=True).serial_execs


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("exec_stdin", "has no value"),
        ("exec_stdim=yes", "did you mean exec_stdin?"),
        ("zzz=1", "use one of exec_stdin"),
        ("exec_stdin=maybe", "neither yes nor no"),
        ("longest_exec_s=none", "not a number from 0"),
        ("machine_limit=-1", "not a number from 0, or none"),
        ("machine_limit=1.5", "not a number from 0, or none"),
        ("young_app_s=inf", "not a number from 0"),
    ],
)
def test_a_bad_quirk_names_the_field(setting: str, words: str) -> None:
    """What is no quirk, or no value of one, is an error that names it and the fix."""
    with pytest.raises(ConfigError, match="--quirk") as caught:
        quirks([setting], kind=False)
    assert words in str(caught.value)
