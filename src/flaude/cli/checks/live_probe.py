"""`flaude doctor --live`: measures what Fly does and compares it with what flaude assumes."""

from __future__ import annotations

import json as json_
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

import anyio
import anyio.to_thread
from rich.console import Console
from rich.text import Text

from flaude._guest.program import prepare
from flaude._model.config import DEFAULT_REGION
from flaude._model.errors import ConfigError, FlyError, JournalError, MachineLimitError, NotFoundError
from flaude._model.placement import check_app_name
from flaude._providers.fly import FlyClient
from flaude._providers.fly.connection import client_for
from flaude._providers.fly.prices import machine_cost_usd
from flaude._providers.fly.probe import saved
from flaude._providers.fly.probe.assumptions import Row, Verdict
from flaude._providers.fly.probe.plan import SIZE, Plan
from flaude._providers.fly.probe.steps import Probe
from flaude._run.machine import guest_file
from flaude.cli.checks.this_computer import Check
from flaude.cli.checks.this_computer import Verdict as CheckVerdict
from flaude.cli.text.amounts import about
from flaude.cli.text.check_lines import print_check
from flaude.cli.text.printable import printable
from flaude.cli.view import consoles

_REFUSED, _LEFT, _BY_SIGNAL = 1, 3, 128
_STYLES = {Verdict.AGREES: "green", Verdict.DIFFERS: "bold yellow", Verdict.NOT_MEASURED: "dim"}
_LONGEST_VALUE = 400

Tell = Callable[[Row | Check], None]


async def live_probe(
    app: str | None,
    *,
    image: str | None,
    save: bool,
    json: bool,
    plan: Plan | None = None,
    rate_limits: float | None = 1.0,
) -> int:
    """Measure, and say what was found.

    Args:
        app: The app for the machines.
        image: Their image, if not the default one.
        save: Whether to keep what was measured.
        json: Whether to print JSON.
        plan: Other sizes and times than the usual ones.
        rate_limits: See `FlyClient`.

    Returns:
        The exit code.

    Raises:
        ConfigError: There is no app's name, or none that can be one.
    """
    if not app:
        raise ConfigError("--app: give the Fly app, or leave it out and set FLY_APP")
    check_app_name(app)
    plan = plan or Plan()
    if image is not None:
        plan = _with_image(plan, image)
    tell = _teller(json=json)
    tell(_estimate(plan))
    await prepare()
    async with client_for(None, token=None, base_url=None, rate_limits=rate_limits) as fly:
        return await _measure(fly, Probe(fly, app, plan, tell, [guest_file()]), app, tell, save=save)


async def _measure(fly: FlyClient, probe: Probe, app: str, tell: Tell, *, save: bool) -> int:
    try:
        refused, got = await _until_signal(probe, tell)
    except BaseExceptionGroup as group:
        if group.subgroup(BrokenPipeError):
            raise BrokenPipeError from None  # who reads has gone; `main` knows what to do
        raise
    if refused is not None:
        tell(_refusal(refused, app))
    left = _tell_end(probe, app, tell)
    if save and refused is None and got is None:
        tell(await _save(fly, probe))
    if left:
        return _LEFT
    if got is not None:
        return _BY_SIGNAL + got
    return _REFUSED if refused is not None else 0


async def _until_signal(probe: Probe, tell: Tell) -> tuple[FlyError | None, signal.Signals | None]:
    """Run the probe to its end, or until SIGINT or SIGTERM; why Fly refused it, and which signal came."""
    refused: FlyError | None = None
    got: signal.Signals | None = None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def listen(work: anyio.CancelScope) -> None:
                nonlocal got
                async for number in signals:
                    if got is None:
                        got = number
                        tell(Check("interrupted", CheckVerdict.NOTE, "deleting the machines that were made"))
                        work.cancel()
                    else:
                        tell(Check("interrupted", CheckVerdict.NOTE, "still deleting: it ends within a minute"))

            with anyio.CancelScope() as work:
                tasks.start_soon(listen, work)
                try:
                    await probe.run()
                except FlyError as error:
                    refused = error
            tasks.cancel_scope.cancel()
    return refused, got


def _with_image(plan: Plan, image: str) -> Plan:
    if not image.strip() or any(letter.isspace() for letter in image):
        raise ConfigError(f"--image: {image!r} is not a valid image name; use for example debian:bookworm")
    return replace(plan, image=image)


def _estimate(plan: Plan) -> Check:
    cost = machine_cost_usd(SIZE, DEFAULT_REGION.split(",")[0], plan.about_s + plan.exit_s)
    told = f"one machine shared-cpu-1x with 256 MB for {about(plan.about_s)}, two more for seconds"
    return Check("cost", CheckVerdict.NOTE, f"{told}: about ${cost or 0.0:.5f} by Fly's prices")


def _refusal(error: FlyError, app: str) -> Check:
    text = str(error)
    fix = "the fix is in Fly's words"
    if isinstance(error, NotFoundError):
        fix = f"flaude app create {app}, or correct --app"
    elif "payment" in text.lower():
        fix = "add a payment method to the organisation: https://fly.io/dashboard"
    elif isinstance(error, MachineLimitError):
        fix = "destroy machines that are not needed, or ask Fly to raise the limit"
    return Check("create", CheckVerdict.WRONG, f"nothing was measured: {text}", fix)


def _tell_end(probe: Probe, app: str, tell: Tell) -> bool:
    """Cost, and what is left; whether something is."""
    machines = probe.machines
    costs = [
        machine_cost_usd(SIZE, made.region, (made.gone_at or anyio.current_time()) - made.from_)
        for made in machines.made.values()
    ]
    if costs:
        known = [cost for cost in costs if cost is not None]
        unknown = "" if len(known) == len(costs) else " (the prices of a region are not known)"
        told = f"{machines.seconds:.0f} machine seconds: ${sum(known):.5f} at the most by Fly's prices{unknown}"
        tell(Check("cost", CheckVerdict.NOTE, told))
    for made in machines.left:
        why = machines.troubles[-1] if machines.troubles else "Fly did not confirm it in time"
        fix = f"it ends by itself; fly machine destroy --force {made.id}"
        tell(Check("left", CheckVerdict.WRONG, f"machine {made.name} ({made.id}) may still be there: {why}", fix))
    for name in sorted(machines.unsure):
        told = f"a create of {name} was not answered, and no list shows the machine"
        fix = f"if it is there, it ends by itself; `fly machine list -a {app}` shows it later"
        tell(Check("left", CheckVerdict.WRONG, told, fix))
    left = bool(machines.left or machines.unsure)
    if machines.made and not left:
        tell(Check("left", CheckVerdict.RIGHT, f"nothing: all {len(machines.made)} machines are gone"))
    return left


async def _save(fly: FlyClient, probe: Probe) -> Check:
    kept = saved.of_measurements(probe.measured, datetime.now(UTC).replace(microsecond=0))
    try:
        file = await anyio.to_thread.run_sync(saved.save, fly.base_url, kept)
    except (OSError, ValueError, JournalError) as error:
        return Check("saved", CheckVerdict.WRONG, f"not saved: {error}", "set FLAUDE_HOME to a folder")
    limits = kept.limits()
    told = f"{file}; up to {limits.body_bytes} bytes in one exec from now on, pulls wait {limits.longest_wait_s:g} s"
    return Check("saved", CheckVerdict.RIGHT, told, "delete the file to forget it")


def _teller(*, json: bool) -> Tell:
    console = consoles.for_results()

    def tell(told: Row | Check) -> None:
        if json:
            print(json_.dumps(asdict(told)), flush=True)
        elif isinstance(told, Check):
            print_check(console, told)
        else:
            _print(console, told)

    return tell


def _print(console: Console, row: Row) -> None:
    """What was seen; below it what flaude assumes and who says so; then what follows."""
    head = ((f"{row.verdict:<13}", _STYLES[row.verdict]), (f"{row.name:<17}", "bold"))
    console.print(Text.assemble(*head, _short(row.found)))
    console.print(Text(f"{'':<13}{'assumed':<17}{row.assumed} ({row.source})", "dim"))
    if row.follows:
        console.print(Text(f"{'':<13}{'so':<17}{_short(row.follows)}"))


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST_VALUE else f"{line[:_LONGEST_VALUE]}…"
