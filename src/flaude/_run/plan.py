"""What one attempt at a run is: its request, its place in the batch, its names."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from flaude._guest.inside.pad import PAD_BYTES
from flaude._model.config import MachineConfig
from flaude._model.placement import Shards
from flaude._model.tags import slug
from flaude._model.timeouts import Timeouts
from flaude._providers.base import MANAGED_BY


def new_pad() -> bytes:
    """A pad for one machine."""
    return secrets.token_bytes(PAD_BYTES)


@dataclass(frozen=True)
class AttemptPlan:
    """What an attempt needs to know of its request and its place in the batch; `recorded` when a journal has it.

    `left_in` is the app in which another controller has left the attempt. `pad` hides the secrets on their way to the
    machine: its config has it, and whoever takes the attempt up needs the same.
    """

    shards: Shards
    config: MachineConfig
    batch: str
    index: int
    attempt: int
    name: str
    tag: str
    run_s: float
    timeouts: Timeouts
    credentials: Mapping[str, str] = field(repr=False)
    queued: datetime
    output_dir: Path
    recorded: bool = False
    left_in: str = ""
    pad: bytes = field(default_factory=new_pad, repr=False)

    @cached_property
    def app(self) -> str:
        """The app of the machine."""
        return self.left_in or self.shards.of(self.batch, self.index, self.attempt)

    @property
    def job_id(self) -> str:
        """What the guest knows the job by."""
        return f"{self.batch}-{self.index}-{self.attempt}"

    @property
    def folder(self) -> Path:
        """Where this attempt's artifacts and transcript go: a name that people can read, and no other attempt has."""
        again = f"-a{self.attempt}" if self.attempt > 1 else ""
        return self.output_dir / self.batch / f"{self.index:03}-{slug(self.tag) or 'run'}{again}"

    @property
    def push_branch(self) -> str:
        """The branch to push the work to; empty for none."""
        return self.config.push_branch.replace("{tag}", slug(self.tag) or self.name)

    @property
    def where(self) -> tuple[object, ...]:
        """What tells apart the places at Fly that runs ask for: the regions, and the size of the machine."""
        return *self.config.regions, self.config.size

    @property
    def account(self) -> int:
        """What tells apart those who pay for the agents; a hash, so that it may be kept."""
        return hash(tuple(sorted(self.credentials.items())))

    @property
    def identity(self) -> dict[str, str]:
        """The part of the machine's metadata that no other machine has."""
        return {
            **batch_metadata(self.batch),
            "flaude_index": str(self.index),
            "flaude_attempt": str(self.attempt),
        }

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Metadata that identifies the machine as ours, and as this attempt's: no secrets, nothing of the prompt.

        Made once: a create that is sent again must be the same create.
        """
        t = self.timeouts
        return {
            **self.identity,
            "flaude_expires_at": str(round(time.time() + t.longest_s(self.run_s))),
            # Of a batch that a journal has, the controller may die and another one come in its place.
            "flaude_patience_s": f"{t.orphan if self.recorded else t.patience:g}",
        }


def batch_metadata(batch: str) -> dict[str, str]:
    """The part of a machine's metadata that all machines of a batch have, and no others."""
    return {"managed_by": MANAGED_BY, "flaude_batch": batch}
