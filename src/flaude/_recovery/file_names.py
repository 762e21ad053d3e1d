"""Where a journal has the files of a run."""

from __future__ import annotations


def run_folder(index: int) -> str:
    """Where the files of a run are, in its batch's."""
    return f"runs/{index:03}"


def collected_file(index: int, attempt: int) -> str:
    """What the machine of an attempt has given, until the run is over."""
    return f"{run_folder(index)}/harvest-{attempt}.json"


def attempt_file(index: int, number: int) -> str:
    """What an attempt has brought that was not the last one."""
    return f"{run_folder(index)}/attempt-{number}.json"
