"""Batch files as texts, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flaude.batch_file import BatchFileError, BatchSpec
from flaude.batch_file.parsing import parse
from flaude.batch_file.spec import Given

CANARY = "ghp_canary0123456789"


def read(
    text: str | bytes,
    name: str = "b.yaml",
    *,
    environ: Mapping[str, str] | None = None,
    app: str | None = "my-app",
    prompt: str | None = None,
    repos: Sequence[str] = (),
    folder: Path = Path("/nonexistent"),
) -> BatchSpec:
    """What a file of that name and content comes to."""
    data = text.encode() if isinstance(text, str) else text
    return parse(data, name, None, Given(environ or {}, app, prompt, repos), folder)


def problems(text: str | bytes, name: str = "b.yaml", **given: object) -> list[str]:
    """All that is wrong with it, each as it is printed."""
    with pytest.raises(BatchFileError) as caught:
        read(text, name, **given)  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]
