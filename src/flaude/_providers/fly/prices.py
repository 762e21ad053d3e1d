"""What a machine costs: Fly's list prices, from one dated data file (`prices.toml`).

An estimate: no discount, tax, volume, larger disk or traffic is in it. Fly bills a started machine by the second.
"""

from __future__ import annotations

import datetime as dt
import math
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flaude._model.errors import ConfigError
from flaude._model.machine_sizes import CPU_CLASSES, MachineSize

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[int, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CpuPrices(_Table):
    """What one kind of CPU costs.

    Attributes:
        cpus: Numbers of CPUs that have a price.
        cpu_second: US dollars a second for each CPU, with its share of memory.
        included_mb_per_cpu: That share, MB.
    """

    cpus: tuple[Positive, ...]
    cpu_second: Price
    included_mb_per_cpu: Positive


class MemoryPrices(_Table):
    """What memory beyond the CPUs' share costs.

    Attributes:
        gb_second: US dollars a second for each GB (1024 MB).
    """

    gb_second: Price


class PriceTable(_Table):
    """Prices of started machines, and where they are from.

    Attributes:
        date: Last day on which the source is known to have had these prices.
        source: Address of the page that states them.
        currency: Always `USD`.
        shared: Prices of shared CPUs.
        performance: Prices of performance CPUs.
        memory: Price of additional memory.
        regions: Each region's factor; a region that is not in it has no known price.
    """

    date: dt.date
    source: Annotated[str, Field(min_length=1)]
    currency: Literal["USD"]
    shared: CpuPrices
    performance: CpuPrices
    memory: MemoryPrices
    regions: dict[str, Price]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The table in a file of your own: a copy of flaude's `prices.toml` with other numbers.

        Raises:
            ConfigError: The file cannot be read, or is no such table; the message names what is wrong.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"prices: {path} cannot be read: {error}") from error
        return cls._parsed(text, str(path))

    @classmethod
    def _parsed(cls, text: str, name: str) -> Self:
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"prices: {name} is no TOML: {error}") from error
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ConfigError(f"prices: {name}: {wrong}") from error

    def cost_usd(self, guest: MachineSize, region: str, seconds: float) -> float | None:
        """See `machine_cost_usd`."""
        prices = self.shared if guest.cpu_kind == "shared" else self.performance
        allowed = CPU_CLASSES[guest.cpu_kind]
        extra_mb = guest.memory_mb - guest.cpus * prices.included_mb_per_cpu
        known = (
            region in self.regions
            and guest.cpus in prices.cpus
            and extra_mb >= 0
            and extra_mb % allowed.memory_step_mb == 0
            and guest.memory_mb <= guest.cpus * allowed.max_memory_mb
            and math.isfinite(seconds)
            and seconds >= 0
        )
        if not known:
            return None
        second = guest.cpus * prices.cpu_second + extra_mb / 1024 * self.memory.gb_second
        return second * self.regions[region] * seconds


@cache
def price_table() -> PriceTable:
    """The prices that flaude comes with."""
    file = resources.files("flaude._providers.fly") / "prices.toml"
    return PriceTable._parsed(file.read_text(encoding="utf-8"), "prices.toml")  # noqa: SLF001  # our own


def machine_cost_usd(
    guest: MachineSize, region: str, seconds: float, *, prices: PriceTable | None = None
) -> float | None:
    """What Fly charges for a machine, in US dollars, by its list prices.

    Args:
        guest: Kind and number of CPUs, and memory.
        region: Fly's code of the region that it ran in, such as `iad`; no alias and no list.
        seconds: How long it was started.
        prices: Other prices than those that flaude comes with.

    Returns:
        The estimate. `None` when the table does not know: another region, a number of CPUs without a price, memory that
        Fly does not offer for it, or seconds that are none (negative, infinite, not a number).
    """
    return (prices or price_table()).cost_usd(guest, region, seconds)
