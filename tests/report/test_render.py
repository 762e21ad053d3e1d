from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources

import pytest
from benchmarks.sample_batch import sample_batch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.report.hostile import PAYLOADS, batch_of
from tests.report.parsed import Page

from flaude import Attempt, ExecutionResult, RunResult
from flaude.events import Created, Creating, Queued
from flaude.report import Limits, ReportData, ReportRun, render
from flaude.report.text import plain, unix

MARKS = {("i", "data-c"), ("i", "data-b")}
SHAPES = {
    "href": r"#run-\d+|#runs",
    "id": r"[a-z]+(-[a-z]+)?(-\d+)?",
    "class": r"[a-z ]+|[AMDRTC]",
    "data-take": r"copy|run-\d+(-\d+)?\.patch",
    "data-v": r"[\d.]*",
    **dict.fromkeys(("data-c", "data-b"), r"[0-9a-f]{1,6}"),
    **dict.fromkeys(("x", "y", "x1", "x2", "y1", "y2", "width", "height"), r"[\d.]+%?|width=device.*"),
    **dict.fromkeys(("data-run", "data-chip", "tabindex"), r"-?\d+"),
}
"""What the values of attributes look like. Others are the page's own, or names for people (`title`, `aria-label`)."""


def page_of(data: ReportData, limits: Limits | None = None) -> Page:
    """The page of a batch, parsed."""
    return Page("".join(render(data, limits=limits)))


def pairs(page: Page) -> set[tuple[str, str]]:
    """Which elements have which attributes."""
    return {(element.tag, name) for element in page.elements for name in ("", *element.attributes)}


BENIGN = pairs(page_of(batch_of("x")))

texts = st.one_of(
    st.sampled_from(PAYLOADS),
    st.text(alphabet=st.sampled_from("<>&\"'/=!-[]{}%`\\ \n\r\0\x1b\u2028\u202e\ud800ascript"), max_size=30),
    st.text(max_size=30),
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts)
def test_foreign_text_stays_text(text: str) -> None:
    """Whatever stands in a batch, it makes no element and no attribute, and is all there as text."""
    content = "".join(render(batch_of(text)))
    content.encode()
    page = Page(content)
    assert pairs(page) <= BENIGN | MARKS
    assert page.unbalanced == [] and page.others == []
    assert len(page.all("script")) == len(page.all("style")) == 1
    for element in page.elements:
        for name, value in element.attributes.items():
            assert re.fullmatch(SHAPES.get(name, ".*"), value, re.DOTALL), (element.tag, name, value)
    shown = plain(unix(text))
    assert sum(one.text == shown for one in page.all("div", class_="searched")) >= (3 if text else 0)
    assert page.one("h3", id="title-0").text == (plain(text) or "run 0")


def test_nothing_odd_is_on_a_page_as_it_is() -> None:
    """What turns the direction of writing, has no width or drives a terminal is there as a picture alone."""
    content = "".join("".join(render(batch_of(text))) for text in PAYLOADS)
    odd = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
    assert not re.search(odd, content)
    said = "".join(page.text for page in Page(content).all("html"))
    assert "⟨ESC⟩[31mred" in said and "⟨U+202E⟩gnp.exe" in said and "line⟨U+2028⟩separator" in said


def test_only_the_pages_own_script_and_style_may_run() -> None:
    """The policy forbids everything but one script and one style, by the hashes of what stands on the page."""
    page = page_of(sample_batch(2))
    (policy,) = [one for one in page.all("meta") if "http-equiv" in one.attributes]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.attributes["content"].split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": hash_of(page.one("script").text),
        "style-src": hash_of(page.one("style").text),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not {name for _, name in pairs(page) if name.startswith("on") or name in ("style", "src", "srcset")}


def hash_of(text: str) -> str:
    """As a policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_no_template_switches_escaping_off() -> None:
    """Templates take no text for markup: what is markup already was made so in one place, `text.marked`."""
    for file in (resources.files("flaude.report") / "templates").iterdir():
        if file.name.endswith(".jinja"):
            assert not re.search(r"\|\s*safe|autoescape|Markup", file.read_text(encoding="utf-8")), file.name


def test_every_run_is_there_three_times() -> None:
    """Each run has a bar in the timeline, a row in the table and its details."""
    page = page_of(sample_batch(30, steps=2))
    indices = [str(index) for index in range(30)]
    assert [one.attributes["data-run"] for one in page.all("tr") if "data-run" in one.attributes] == indices
    assert [one.attributes["data-run"] for one in page.all("details", class_="run")] == indices
    links = [one.attributes["href"] for one in page.all("a")]
    assert links == ["#runs", *(f"#run-{index}" for index in indices * 2)]
    assert [f"#{one.attributes['id']}" for one in page.all("article")] == links[1:31]


class OneAtATime:
    """Runs that can be gone through once."""

    def __init__(self, data: ReportData) -> None:
        self._runs = iter(data.runs)
        self._number = len(data.runs)

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[ReportRun]:
        return self._runs


def test_runs_are_gone_through_once() -> None:
    """Runs can be read from where they lie, each when it is its turn."""
    data = sample_batch(5, steps=1)
    assert "".join(render(replace(data, runs=OneAtATime(data)))) == "".join(render(data))


def huge_run(index: int = 0, tag: str = "huge") -> ReportRun:
    """A run with a patch of megabytes and a transcript of thousands of steps."""
    (sample,) = sample_batch(1, steps=3).runs
    assert sample.result is not None and sample.result.run_result is not None
    (patch,) = sample.result.run_result.patches
    head = b"diff --git a/big.txt b/big.txt\n--- a/big.txt\n+++ b/big.txt\n@@ -0,0 +1,100000 @@\n"
    huge = patch.model_copy(update={"diff": head + b"+a line of a patch that is much too long for anybody\n" * 100_000})
    result = replace(sample.result, run_result=sample.result.run_result.model_copy(update={"patches": (huge,)}))
    return replace(sample, index=index, tag=tag, result=result, events=[*sample.events] * 200)


def test_a_page_has_a_limit_and_says_what_is_left_out() -> None:
    """Runs that are too large make a page that a browser can show, and every cut names what prints the rest."""
    data = replace(sample_batch(1), runs=tuple(huge_run(index) for index in range(4)))
    content = "".join(render(data, limits=Limits(page=2_000_000)))
    assert 1_500_000 < len(content) < 2_300_000
    cuts = [" ".join(cut.text.split()) for cut in Page(content).all("p", class_="cut")]
    for what, verb in (("lines", "patch"), ("steps", "logs")):
        told = re.compile(rf"[\d,]+ more {what} are not on this page\. All of it: flaude {verb} 5e0c1b7a42 huge")
        assert sum(bool(told.fullmatch(cut)) for cut in cuts) >= 4, cuts
    assert "data-take" not in content.split("<body>")[1], "a part of a patch is no patch to take"


@pytest.mark.parametrize("text", ["x" * 300_000, "\x1b" * 60_000, "line\n" * 60_000], ids=["long", "odd", "lines"])
def test_whatever_is_long_is_cut(text: str) -> None:
    """No text of a batch makes the page grow with it, wherever it stands."""
    page = "".join(render(batch_of(text), limits=Limits(page=1_000_000)))
    assert len(page) < 1_500_000


def test_where_no_command_can_print_the_rest_none_is_named() -> None:
    """Without a journal there is nothing that `flaude patch` would find."""
    data = replace(sample_batch(1), runs=(huge_run(),), in_journal=False)
    content = "".join(render(data, limits=Limits(page=100_000))).split("<body>")[1]
    assert "not on this page" in content and "flaude patch" not in content and "flaude logs" not in content


def test_a_tag_is_quoted_for_the_shell() -> None:
    """A command on the page can be pasted, whatever the tag is."""
    data = replace(sample_batch(1), runs=(huge_run(tag="$(touch pwned); 'x'"),))
    page = page_of(data, Limits(page=100_000))
    assert commands_of(page) == {"flaude patch 5e0c1b7a42 '$(touch pwned); '\"'\"'x'\"'\"''"}


def commands_of(page: Page) -> set[str]:
    """The commands that print patches."""
    return {one.text for one in page.all("code") if one.text.startswith("flaude patch")}


@pytest.mark.parametrize("tag", ["", "x" * 201, "\x1b[31m"])
def test_a_run_whose_tag_cannot_be_pasted_is_named_by_its_number(tag: str) -> None:
    """The command that prints the rest of a patch works all the same."""
    data = replace(sample_batch(1), runs=(huge_run(12, tag=tag),))
    assert commands_of(page_of(data, Limits(page=100_000))) == {"flaude patch 5e0c1b7a42 '#12'"}


def test_each_repository_has_its_own_command() -> None:
    """Where there are several, the command says which one it means."""
    run = huge_run()
    assert run.result is not None and run.result.run_result is not None
    twice = run.result.run_result.model_copy(update={"patches": run.result.run_result.patches * 2})
    data = replace(sample_batch(1), runs=(replace(run, result=replace(run.result, run_result=twice)),))
    commands = commands_of(page_of(data, Limits(page=100_000)))
    assert commands == {f"flaude patch 5e0c1b7a42 huge --repo {number}" for number in (0, 1)}


def test_a_batch_that_goes_on() -> None:
    """Runs without a result are told as such, and their bars go on until the report was made."""
    data = sample_batch(3, steps=2)
    first, *rest = data.runs
    events = tuple(event for event in first.events if isinstance(event, Queued | Creating | Created))
    going = replace(first, result=None, phase="boot", events=events)
    page = page_of(replace(data, runs=(going, *rest), ended=None))
    told = " ".join(page.one("body").text.split())
    assert page.one("h1").text == "2 of 3 runs succeeded" and "1 not over" in told
    assert "1 run had no result when this report was made (2026-11-26 " in told
    assert "It is not over, and there is no result yet." in told
    assert data.made is not None
    assert any(title.text.startswith(f"{first.tag}: boot; queued 0 s, create ") for title in page.all("title"))


def test_machines_that_may_be_there_are_named() -> None:
    """A machine whose end is not confirmed costs money: its name stands above everything else."""
    attempt = Attempt(number=1, name="flaude-x-0", machine_id="1857", gone=False, app="my-app-2")
    run = RunResult(machine_id="1857", exit_code=0, state="started", destroyed=False)
    result = ExecutionResult(tag="t", run_result=run, attempts=(attempt,))
    page = page_of(ReportData(runs=(ReportRun(0, "t", result=result),), app="my-app", settings={"shards": 3}))
    told = " ".join(page.one("div", class_="alert").text.split())
    assert "1 machine may still be there" in told and "flaude-x-0 (1857, app my-app-2)" in told
    assert "flaude reap --app my-app" in told
    body = " ".join(page.one("body").text.split())
    assert "app my-app and 2 shards" in body and "1857 in my-app-2 not confirmed gone" in body


@pytest.mark.parametrize("runs", [(), (ReportRun(0, ""),), (ReportRun(0, "t", result=ExecutionResult("t")),)])
def test_a_batch_of_which_little_is_known(runs: tuple[ReportRun, ...]) -> None:
    """Without times, prompts, events or results there still is a page."""
    page = page_of(ReportData(runs=runs))
    assert page.unbalanced == [] and len(page.all("tr")) == 1 + len(runs)
