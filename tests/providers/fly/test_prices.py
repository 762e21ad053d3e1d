"""What a machine costs."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import ConfigError
from flaude._model.machine_sizes import PRESETS, MachineSize, machine_size
from flaude._providers.fly.prices import PriceTable, machine_cost_usd, price_table

MONTH_S = 30 * 24 * 3600
TOML = (resources.files("flaude._providers.fly") / "prices.toml").read_text(encoding="utf-8")


def month(size: str, region: str = "iad", memory_mb: int | None = None) -> float | None:
    """US dollars for 30 days, to the cent as Fly's page has them."""
    cost = machine_cost_usd(machine_size(size, None, memory_mb), region, MONTH_S)
    return None if cost is None else round(cost, 2)


def test_the_table_has_its_date_and_source() -> None:
    """Prices without a date and a source are rumours."""
    table = price_table()
    assert dt.date(2026, 10, 1) <= table.date <= dt.datetime.now(tz=dt.UTC).date()
    assert re.fullmatch(r"https://docs\.fly\.io/\S+", table.source)
    assert table.currency == "USD"


@pytest.mark.parametrize("size", PRESETS)
def test_every_preset_has_a_price(size: str) -> None:
    """Each of Fly's presets has a price."""
    cost = month(size)
    assert cost is not None and cost > 0


@pytest.mark.parametrize(
    ("size", "memory_mb", "region", "expected"),
    [
        ("shared-cpu-1x", None, "iad", 2.19),
        ("shared-cpu-1x", 1024, "iad", 6.70),
        ("shared-cpu-2x", 2048, "iad", 13.39),
        ("performance-1x", None, "iad", 33.00),
        ("performance-2x", None, "iad", 66.00),
        ("performance-2x", None, "ewr", 66.00),
        ("shared-cpu-1x", 1024, "fra", 7.73),
        ("shared-cpu-1x", 1024, "sin", 8.50),
    ],
)
def test_amounts_that_fly_writes_out(size: str, memory_mb: int | None, region: str, expected: float) -> None:
    """The table gives the amounts that Fly's page of October 2026 writes out, to the cent."""
    assert month(size, region, memory_mb) == expected


def test_the_default_machine_costs_two_fifths_of_a_performance_one() -> None:
    """Its additional memory is in the price, and most of it."""
    extra_gb = (4096 - 2 * 256) / 1024
    assert month("shared-cpu-2x") == pytest.approx(2 * 2.19 + extra_gb * 6.00, abs=0.03) == 25.40
    assert month("performance-2x") == 66.00


def test_additional_memory() -> None:
    """A GB more costs six dollars for 30 days, whatever machine it is added to."""
    for size in ("shared-cpu-8x", "performance-2x"):
        few, more = PRESETS[size].memory_mb, PRESETS[size].memory_mb + 2048
        without, with_it = month(size, memory_mb=few), month(size, memory_mb=more)
        assert without is not None and with_it is not None
        assert with_it - without == pytest.approx(2 * 6.00, abs=0.02)


@pytest.mark.parametrize(
    ("machine", "region"),
    [
        (PRESETS["performance-2x"], "bom"),
        (PRESETS["performance-2x"], ""),
        (PRESETS["performance-2x"], "eu"),
        (PRESETS["performance-2x"], "iad,ewr"),
        (MachineSize("performance", 3, 6144), "iad"),
        (MachineSize("performance", 2, 2048), "iad"),
        (MachineSize("performance", 2, 5000), "iad"),
        (MachineSize("performance", 2, 32768), "iad"),
        (MachineSize("shared", 10, 2560), "iad"),
        (MachineSize("shared", 1, 300), "iad"),
    ],
)
def test_what_the_table_does_not_know_has_no_price(machine: MachineSize, region: str) -> None:
    """Another region, number of CPUs or memory has no price rather than an invented one."""
    assert machine_cost_usd(machine, region, 60) is None


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_seconds_that_are_none_have_no_price(seconds: float) -> None:
    """A time that no clock can have measured costs nothing that could be said."""
    assert machine_cost_usd(PRESETS["performance-2x"], "iad", seconds) is None


@given(
    st.sampled_from(sorted(PRESETS)),
    st.sampled_from(sorted(price_table().regions)),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
)
def test_longer_is_not_cheaper(size: str, region: str, one: float, other: float) -> None:
    """The cost grows with the seconds, from nothing, and is never below that of iad."""
    less, more = (machine_cost_usd(PRESETS[size], region, seconds) for seconds in sorted((one, other)))
    base = machine_cost_usd(PRESETS[size], "iad", max(one, other))
    assert less is not None and more is not None and base is not None
    assert 0 <= less <= more
    assert more >= base
    assert machine_cost_usd(PRESETS[size], region, 0) == 0


def test_prices_of_your_own(tmp_path: Path) -> None:
    """A file of one's own takes the place of flaude's."""
    own = tmp_path / "own.toml"
    own.write_text(TOML.replace("cpu_second = 0.000012732", "cpu_second = 0.5").replace("iad = 1\n", "iad = 2\n"))
    assert machine_cost_usd(PRESETS["performance-2x"], "iad", 10, prices=PriceTable.load(own)) == 2 * 0.5 * 2 * 10


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('source = "', 'sauce = "', "source: Field required"),
        ('currency = "USD"', 'currency = "EUR"', "currency: "),
        ("date = 2026-10-09", 'date = "soon"', "date: "),
        ("gb_second = 0.000002316", "gb_second = -1", "memory.gb_second: "),
        ("ewr = 1\n", 'ewr = "dear"\n', "regions.ewr: "),
        ("[memory]", "[memory", "is no TOML: "),
    ],
)
def test_a_wrong_file_names_what_is_wrong(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """A file that is no price table is an error with the file's name and the place."""
    assert old in TOML
    own = tmp_path / "own.toml"
    own.write_text(TOML.replace(old, new))
    with pytest.raises(ConfigError, match="prices: ") as caught:
        PriceTable.load(own)
    assert str(own) in str(caught.value)
    assert expected in str(caught.value)


def test_a_file_that_is_not_there_names_itself(tmp_path: Path) -> None:
    """A file that cannot be read is an error with its name."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        PriceTable.load(tmp_path / "nowhere.toml")


def test_the_wheel_has_the_prices(tmp_path: Path) -> None:
    """The data file is in the wheel."""
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(wheel).read("flaude/_providers/fly/prices.toml").decode() == TOML
