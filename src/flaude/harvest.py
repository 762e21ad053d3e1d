"""What a machine has given, as JSON and back: kept before the machine is told that it may go."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flaude.fetching import Arrived
from flaude.protocol import GuestResult
from flaude.run_result import Artifact, Omitted


@dataclass(frozen=True)
class Harvest:
    """The guest's account of a run, and the files that have arrived."""

    result: GuestResult
    arrived: Arrived


def dump_harvest(harvest: Harvest) -> dict[str, Any]:
    """All of it, as `json.dumps` takes it."""
    arrived = harvest.arrived
    return {
        "result": harvest.result.model_dump(mode="json"),
        "contents": {name: base64.b64encode(content).decode() for name, content in arrived.contents.items()},
        "artifacts": [artifact.model_dump(mode="json") for artifact in arrived.artifacts],
        "transcript": arrived.transcript.model_dump(mode="json") if arrived.transcript else None,
        "lost": [omitted.model_dump(mode="json") for omitted in arrived.lost],
    }


def load_harvest(kept: Mapping[str, Any]) -> Harvest:
    """The harvest again."""
    transcript = kept["transcript"]
    return Harvest(
        GuestResult.model_validate(kept["result"]),
        Arrived(
            {name: base64.b64decode(content) for name, content in kept["contents"].items()},
            tuple(Artifact.model_validate(artifact) for artifact in kept["artifacts"]),
            Artifact.model_validate(transcript) if transcript else None,
            tuple(Omitted.model_validate(omitted) for omitted in kept["lost"]),
        ),
    )
