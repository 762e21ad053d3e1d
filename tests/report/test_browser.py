"""The report in a real browser: Debian's Chromium, started once."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from benchmarks.sample_batch import sample_batch
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.conftest import needs
from tests.report.hostile import PAYLOADS, batch_of

from flaude.report import ReportRun, render, write_page
from flaude.report.units import NOTHING

pytestmark = pytest.mark.timeout(180)  # a click takes seconds on a computer with much to do

RUNS = 200
RICH, CUT, PRINTED = 7, 8, 33
"""The run whose patch holds everything that a patch may, one whose patch is too large, and one to be printed."""

PATCH = (
    b"diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,3 @@\n one\n-two\r\n"
    b"+2 </pre><script>window.__pwned=1</script>\n+\xff\xfe latin \x1b[0m \xe2\x80\xae nul \x00 \xe2\x80\xa8 end\n"
    b"\\ No newline at end of file\n"
    b"diff --git a/b.bin b/b.bin\nnew file mode 100644\nGIT binary patch\nliteral 3\nKcmZQzWMT#Y01f~L\n\nliteral 0\n"
    b"HcmV?d00001\n\n"
)
ROWS = "#runs tbody tr:not([hidden])"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 200 runs; among them are hostile ones, in every place where there is text."""
    data = sample_batch(RUNS, steps=2)
    runs = [*data.runs]
    for number, payload in enumerate(PAYLOADS):
        hostile, *_ = batch_of(payload).runs
        runs[number * 10 + 9] = replace(hostile, index=number * 10 + 9)
    runs[RICH] = with_patch(runs[RICH], PATCH)
    runs[CUT] = with_patch(runs[CUT], PATCH.replace(b"one", b"one" * 1000))
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(render(replace(data, runs=tuple(runs))), path)
    return path


def with_patch(run: ReportRun, diff: bytes) -> ReportRun:
    """The same run with another patch."""
    assert run.result is not None and run.result.run_result is not None
    repo = run.result.run_result.patches[0].model_copy(update={"diff": diff})
    brought = run.result.run_result.model_copy(update={"patches": (repo,)})
    return replace(run, result=replace(run.result, run_result=brought))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, once for all of these tests."""
    chromium = shutil.which("chromium")
    expect.set_options(timeout=60_000)
    needs("Chromium", "run scripts/install-test-tools", there=chromium is not None)
    with sync_playwright() as playwright:
        # Root runs the tests in CI, and Chromium's own sandbox refuses that.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Heard:
    """What a page has said to its console, and of what kind the addresses were that it has asked for."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> Heard:
        """Of a page, from now on."""
        heard = cls()
        page.on("console", lambda message: heard.said.append(message.text))
        page.on("pageerror", lambda error: heard.said.append(str(error)))
        page.on("request", lambda request: heard.asked.append(request.url.partition(":")[0]))
        return heard


@pytest.fixture(scope="module")
def tab(browser: Browser, report: Path) -> Iterator[tuple[Page, Heard]]:
    """The report, opened once: to open it takes longer than most tests."""
    context = browser.new_context(reduced_motion="reduce", permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(60_000)
    page = context.new_page()
    heard = Heard.of(page)
    page.goto(report.as_uri())
    yield page, heard
    assert heard.asked.count("file") == 1
    context.close()


AS_IT_WAS = """async () => {
    const viewer = document.querySelector("#viewer");
    if (viewer.open) await new Promise(closed => {
        viewer.addEventListener("close", closed, { once: true });
        viewer.close();
    });
    document.querySelector("#clear").click();
    document.querySelector("#runs th:not([aria-sort=ascending]):first-child button")?.click();
    scrollTo(0, 0);
}"""


@pytest.fixture
def page(tab: tuple[Page, Heard]) -> Iterator[Page]:
    """The report as it was opened; at the end no foreign script has run, nothing was fetched or complained of."""
    page, heard = tab
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(media="screen", color_scheme="light")
    yield page
    assert page.evaluate("window.__pwned") is None
    assert heard.said == []
    assert set(heard.asked) <= {"file", "blob"}
    page.evaluate(AS_IT_WAS)


def column(page: Page, number: int) -> list[str]:
    """The texts of a column, from 1, in the rows that are shown."""
    script = "cells => cells.map(cell => cell.innerText)"
    texts: list[str] = page.eval_on_selector_all(f"{ROWS} > :nth-child({number})", script)
    return texts


def drawn(page: Page) -> None:
    """Return when the browser has drawn: it moves the focus to where a link has led just before, if it has to."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")


def shows(page: Page, run: int) -> None:
    """Return when this run is the one that is open."""
    expect(page.get_by_role("dialog").locator(f"#run-{run}")).to_have_count(1)
    drawn(page)


def go_to(page: Page, run: int) -> None:
    """Follow a link to a run, and wait until it is open."""
    page.goto(f"{page.url.partition('#')[0]}#run-{run}")
    shows(page, run)


def test_it_shows_all_runs_and_runs_nothing_else(page: Page) -> None:
    """All 200 runs are there in the browser's own view, and hostile text has made no element and no link."""
    assert page.locator(ROWS).count() == page.locator(".bars a").count() == RUNS
    assert page.locator("h1").inner_text().endswith(f"of {RUNS} runs succeeded")
    assert page.locator("script").count() == page.locator("style").count() == 1
    foreign = "iframe, img, object, embed, link, base, form, [onload], [onerror], [onmouseover], [onfocus], [style]"
    assert page.locator(foreign).count() == 0
    links: list[str] = page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
    assert all(re.fullmatch(r"#run-\d+|#runs", link) for link in links)


def test_a_script_that_gets_in_does_not_run(browser: Browser, tmp_path: Path) -> None:
    """Were a text to become markup all the same, the policy of the page would keep it from running or fetching."""
    path = tmp_path / "broken.html"
    intruder = "<script>window.__pwned = 1</script><img src='https://example.com/x' onerror='window.__pwned = 2'>"
    path.write_text("".join(render(sample_batch(1))).replace("<footer>", f"{intruder}<footer>"), encoding="utf-8")
    page = browser.new_page()
    heard, answered = Heard.of(page), list[str]()
    page.on("response", lambda response: answered.append(response.url))
    with page.expect_console_message(lambda _: len(heard.said) >= 2):
        page.goto(path.as_uri())
    assert page.evaluate("window.__pwned") is None
    assert page.evaluate("document.documentElement.className") == "js", "our own script has run"
    assert len(heard.said) >= 2 and all("Content Security Policy" in text for text in heard.said), heard.said
    assert answered == [path.as_uri()]
    page.close()


def test_sorting(page: Page) -> None:
    """A heading sorts by its column, again in the other direction; runs without a value come last both times."""
    cost = page.get_by_role("button", name="Cost", exact=True)
    head = page.locator("#runs th", has=cost)
    for direction, sign in (("descending", -1), ("ascending", 1)):
        cost.click()
        assert head.get_attribute("aria-sort") == direction
        shown = column(page, 5)
        values = [float(cell.replace("$", "").replace(",", "")) for cell in shown if cell != NOTHING]
        assert values == sorted(values, key=lambda value: sign * value) and len(values) < RUNS
        assert set(shown[len(values) :]) == {NOTHING}
    page.get_by_role("button", name="Tag", exact=True).click()
    found = [re.fullmatch(r"(api-[a-z]+-[a-z]+)-(\d+)", tag) for tag in column(page, 2)]
    tags = [(tag[1], int(tag[2])) for tag in found if tag]
    assert tags == sorted(tags) and len(tags) > 10
    assert page.locator("#runs [aria-sort]").count() == 1


def test_filtering(page: Page) -> None:
    """Text and outcomes narrow the table, also by words that stand only in a prompt or a failure; Escape clears."""
    search, rows = page.get_by_role("searchbox"), page.locator(ROWS)
    search.fill("DATABASE module")
    assert set(column(page, 3)) == {"agent_error"} and 0 < rows.count() < 20
    assert page.locator("#shown").inner_text() == f"{rows.count()} of {RUNS} runs"
    search.press("Escape")
    assert rows.count() == RUNS
    for chip in ("clone", "max_turns"):
        page.get_by_role("button", name=re.compile(f"^{chip}")).click()
    assert set(column(page, 3)) == {"clone", "max_turns"}
    page.get_by_role("button", name="Show all").click()
    assert rows.count() == RUNS and page.locator("[aria-pressed=true]").count() == 0
    search.fill("no run has this")
    assert rows.count() == 0 and page.locator("#shown").inner_text() == f"0 of {RUNS} runs"


def test_a_run_by_mouse(page: Page) -> None:
    """A click on a row opens its run, the buttons go on from there, and the address says which run it is."""
    dialog, tags = page.get_by_role("dialog"), column(page, 2)
    expect(dialog).to_have_count(0)
    page.locator(ROWS).nth(3).locator("td").nth(3).click()
    expect(dialog.locator("h3")).to_have_text(tags[3])
    expect(page).to_have_url(re.compile("#run-3$"))
    page.get_by_role("button", name="Next").click()
    expect(dialog.locator("h3")).to_have_text(tags[4])
    expect(page).to_have_url(re.compile("#run-4$"))
    expect(dialog).to_contain_text("5 of 200")
    dialog.get_by_text("Transcript").click()
    expect(dialog.get_by_text("the agent begins")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    expect(page.locator("#details > details > article")).to_have_count(RUNS)  # each is back at its place
    lane = page.locator(".bars a").nth(12)
    lane.hover()
    expect(page.locator(".readout")).to_have_text(re.compile(f"^{re.escape(tags[12])}: "))
    lane.click()
    expect(dialog.locator("h3")).to_have_text(tags[12])


def test_a_run_by_keyboard(page: Page) -> None:
    """From the skip link on: arrows go through the rows, Enter and Space open, Escape leads back to the row."""
    dialog, tags, keys = page.get_by_role("dialog"), column(page, 2), page.keyboard
    skip, row, here = (
        page.get_by_text("Skip to the runs"),
        page.locator("#runs tbody :focus"),
        page.locator("#runs :focus"),
    )

    def press(**leads_to: str) -> None:
        """Press keys, each when the focus is where the one before has led to."""
        for key, text in leads_to.items():
            keys.press(key)
            expect(row).to_have_text(text)

    page.locator("a, button, input, summary, [tabindex]").first.focus()
    expect(skip).to_be_focused()
    keys.press("Enter")
    expect(page).to_have_url(re.compile("#runs$"))
    expect(page.locator("#runs")).to_be_focused()
    drawn(page)
    tries = page.get_by_role("button", name="Tries", exact=True)
    tries.focus()
    expect(tries).to_be_focused()
    keys.press("Tab")
    expect(row).to_have_count(1)
    press(Home=tags[0], ArrowDown=tags[1])
    press(ArrowDown=tags[2])
    keys.press("Enter")
    expect(dialog.locator("h3")).to_have_text(tags[2])
    shows(page, 2)
    keys.press("Escape")
    expect(row).to_have_text(tags[2])
    expect(dialog).to_have_count(0)
    expect(page).not_to_have_url(re.compile("#run"))
    keys.press("Tab")
    expect(here).to_have_count(0)  # the table is one stop of the Tab key
    keys.press("Shift+Tab")
    expect(row).to_have_text(tags[2])
    press(End=tags[-1], ArrowUp=tags[-2])
    keys.press("Space")
    expect(dialog.locator("h3")).to_have_text(tags[-2])
    shows(page, RUNS - 2)
    keys.press("Escape")
    expect(row).to_have_text(tags[-2])
    page.locator(".bars a").first.focus()
    keys.press("ArrowDown")
    expect(page.locator(".readout")).to_contain_text(f"{tags[1]}: ")


def test_a_patch_is_taken_from_the_page(page: Page, tmp_path: Path) -> None:
    """A link leads to a run; its patch is downloaded byte by byte, and copied where it is text; never a part of one."""
    go_to(page, RICH)
    dialog, previous = page.get_by_role("dialog"), page.get_by_role("button", name="Previous")
    download, copy = (dialog.get_by_role("button", name=name) for name in ("Download", "Copy patch"))
    expect(dialog.locator(".diff").first).to_be_visible()
    with page.expect_download() as downloaded:
        download.click()
    downloaded.value.save_as(tmp_path / "patch")
    assert (tmp_path / "patch").read_bytes() == PATCH
    assert downloaded.value.suggested_filename == f"run-{RICH}.patch"
    copy.click()
    expect(dialog.get_by_text("Not copied (bytes that are no text): download it.")).to_be_visible()
    previous.click()
    shows(page, RICH - 1)
    copy.click()
    expect(dialog.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("diff --git a/src/")
    go_to(page, CUT)
    expect(dialog.get_by_text("1 more line is not on this page.").first).to_be_visible()
    expect(download).to_have_count(0)


def test_a_small_screen(page: Page) -> None:
    """At 360 pixels nothing makes the page scroll sideways: the table and patches scroll in their own boxes."""
    page.set_viewport_size({"width": 360, "height": 740})
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("(box => box.scrollWidth > box.clientWidth)(document.querySelector('#runs .scroll'))")
    page.locator(ROWS).nth(9).locator("a").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.locator("dialog details").evaluate_all("all => all.forEach(one => one.open = true)")
    expect(dialog.locator(".diff").first).to_be_visible()
    assert page.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('dialog'))")
    go_to(page, CUT)
    dialog.locator(".file > summary").first.click()
    assert dialog.locator(".diff").first.evaluate("box => { box.scrollLeft = 99; return box.scrollLeft }") == 99


CONTRAST = """selectors => selectors.map(selector => {
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    const linear = part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const element = document.querySelector(selector);
    if (!element) return [selector, 0];
    let box = element, behind = null;
    for (; box && !behind; box = box.parentElement) {
        const colour = numbers(getComputedStyle(box).backgroundColor);
        if (colour.length < 4 || colour[3] > 0) behind = colour;
    }
    const [low, high] = [light(numbers(getComputedStyle(element).color)), light(behind)].sort((a, b) => a - b);
    return [selector, (high + 0.05) / (low + 0.05)];
})"""

TEXTS = """
h1; .eyebrow; .verdict; .note; .tiles dt; .tiles .plus; .alert; .legend span; .readout; .shown; footer
#search; .chip; .chip span; thead button; #runs tbody a; #runs .key.ok; #runs .key.failed; #runs .plus; #runs .minus
dialog .key.failed; dialog .prose; dialog .alert b; dialog .cut; dialog .diff .a; dialog .diff .h; dialog .diff .m
dialog i; dialog .steps time; dialog .steps .trouble; dialog .steps .phase; dialog .facts dt; #place; #close kbd
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, scheme: Literal["light", "dark"]) -> None:
    """Text has a contrast of 4.5 to 1 at least in both schemes, and the dark one is dark."""
    page.emulate_media(color_scheme=scheme)
    go_to(page, 159)
    expect(page.get_by_role("dialog")).to_be_visible()
    ratios = page.evaluate(CONTRAST, re.split("; |\n", TEXTS.strip()))
    assert [(text, ratio) for text, ratio in ratios if ratio < 4.5] == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")


def test_on_paper(page: Page) -> None:
    """Printed, the runs that the filter shows are opened, with their patches, and there is nothing to press."""
    page.get_by_role("searchbox").fill(column(page, 2)[PRINTED])
    folds = page.locator(f"details.run[data-run='{PRINTED}'], #run-{PRINTED} details")
    folds.evaluate_all("all => all.forEach(one => one.open = false)")
    page.emulate_media(media="print")
    expect(page.locator(f"#run-{PRINTED} h3")).to_be_visible()
    expect(page.locator(f"#run-{PRINTED} .diff").first).to_be_visible()
    expect(page.locator(f"#run-{PRINTED} .steps")).to_be_hidden()
    expect(page.locator("#run-0 h3")).to_be_hidden()
    for controls in (".controls", ".take", ".skip"):
        expect(page.locator(controls).first).to_be_hidden()
    opened = page.locator("details[open]").count()
    assert len(page.pdf()) > 10_000
    expect(page.locator("details[open]")).to_have_count(opened)  # as before


def test_without_scripts(browser: Browser, report: Path) -> None:
    """Without JavaScript the runs are a list that opens, links lead into it, and there are no dead controls."""
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{report.as_uri()}#run-5")
    expect(page.locator("#run-5 h3")).to_be_visible()
    expect(page.locator("#run-6 h3")).to_be_hidden()
    page.locator("#details > details > summary").nth(6).click()
    expect(page.locator("#run-6 h3")).to_be_visible()
    for controls in (".controls", ".take"):
        expect(page.locator(controls).first).to_be_hidden()
    page.close()
