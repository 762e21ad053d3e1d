"""What follows from what was measured of Fly, and how it is kept."""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude._model.data_folder import home_folder
from flaude._providers.fly.exec_limits import LONGEST_WORD, ExecLimits
from flaude._providers.fly.probe import measuring, saved
from flaude._providers.fly.probe.assumptions import ASSUMPTIONS, Verdict, row
from flaude._providers.fly.probe.measuring import Answered
from flaude._providers.fly.probe.saved import NewerFileError, Saved

AT = datetime(2026, 11, 30, tzinfo=UTC)
URL = "https://api.example.com"


def answered(status: int = 200, **fields: Any) -> Answered:
    """An exec's answer."""
    return Answered(status, json.dumps(fields))


@given(st.integers(min_value=200, max_value=400_000))
def test_a_body_of_a_certain_size(size: int) -> None:
    """A body is as long as asked for, or shorter by what an empty word takes, and no word is too long for Linux."""
    body = measuring.exec_body(size, 10)
    assert size - 4 <= len(measuring.as_body(body)) <= size
    assert max(map(len, body["command"])) <= LONGEST_WORD
    assert measuring.words_in(body) == len(body["command"]) - 4


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (bytes(range(256)).decode("latin-1"), "latin-1"),
        (base64.b64encode(bytes(range(256))).decode(), "base64"),
        (bytes(range(256)).decode(errors="replace"), "no"),
        ("", "no"),
    ],
)
def test_how_bytes_arrive(text: str, kept: str) -> None:
    """Whether every byte arrives is seen, whatever form it arrives in."""
    assert measuring.bytes_kept(text) == kept


@pytest.mark.parametrize(
    ("long", "short", "within"),
    [
        ("from=10.0\nto=15.1", "at=10.7", True),
        ("from=10.0\nto=15.1", "at=15.2", False),
        ("from=10.0\nto=15.1", "at=9.9", None),
        ("from=10.0", "at=10.7", None),
        ("", "", None),
    ],
)
def test_whether_two_ran_at_once(long: str, short: str, within: bool | None) -> None:
    """Two commands ran at once when the machine's own clock says so; where it does not say it, that is said."""
    assert measuring.is_within(long, short) is within


def test_a_rejection_is_no_run() -> None:
    """What an init says that did not run the command is no answer, on whichever stream; nor is a gateway's page."""
    told = "Unhandled rejection: Rejection([PayloadTooLarge])"
    assert answered(stdout="x").ran and answered().ran
    assert not answered(stdout=told).ran and not answered(stderr=f"\n{told}").ran and not answered(408).ran
    assert not Answered(200, "<html>").ran
    assert measuring.exec_seen(answered(stderr=told)) == {"status": 200, "stream": "stderr", "text": told}


def test_what_a_burst_came_to() -> None:
    """Of several calls at once it is told how many were limited, in which words, and what else went wrong."""
    limited = Answered(429, "slow down", {"Retry-After": "1", "X-RateLimit-Limit": "1", "Date": "now", "Cookie": "a"})
    found = measuring.burst([answered(), answered(), limited, Answered(502, "bad gateway")])
    assert found == {
        "sent": 4,
        "ok": 2,
        "limited": 1,
        "text": "slow down",
        "headers": {"retry-after": "1", "x-ratelimit-limit": "1"},
        "others": ["502 bad gateway"],
    }


def test_tokens_are_told_without_whose_they_are() -> None:
    """What is told of tokens may be sent to others: no name, no id."""
    told = {"token_id": "canary", "user": "canary", "apps": ["canary"], "org_slug": "canary"}
    found = measuring.token_kinds({"tokens": [told, {"restricted_to_machine": "canary"}, "odd"]})
    assert found == {"tokens": 2, "for_apps": 1, "of_people": 1, "of_machines": 1}
    assert measuring.token_kinds(["odd"])["tokens"] == 0


EXEC_ERROR = "Unhandled rejection: Rejection([ExecError(Os {{ code: {} }})])"
BODY = {"recognised": True, "refusal": {"status": 200, "stream": "stdout", "text": "PayloadTooLarge"}}


@pytest.mark.parametrize(
    ("name", "found", "verdict", "follows"),
    [
        ("exec_stdin", {"sent": 11, "arrived": 0}, Verdict.AGREES, ""),
        ("exec_stdin", {"sent": 11, "arrived": 11}, Verdict.DIFFERS, "--save"),
        ("exec_stdin", {"sent": 11, "arrived": 5}, Verdict.DIFFERS, ""),
        ("exec_body", {"largest": 15_000, "refused": 17_000, **BODY}, Verdict.AGREES, ""),
        ("exec_body", {"largest": 64_000, "refused": 200_000, **BODY}, Verdict.DIFFERS, "64,000"),
        ("exec_body", {"largest": 8_000, "refused": 12_000, **BODY}, Verdict.DIFFERS, "halves"),
        ("exec_body", {"largest": 200_000, "refused": None, "recognised": True}, Verdict.DIFFERS, "200,000"),
        ("exec_body", {"largest": 15_000, "refused": 17_000, "recognised": False}, Verdict.DIFFERS, "report it"),
        ("exec_output", {"largest": 65_536, "asked": 262_144, "cut_at": 65_536}, Verdict.DIFFERS, "less"),
        ("exec_output", {"largest": 65_536, "asked": 262_144, "error": "502"}, Verdict.DIFFERS, "less"),
        ("exec_output", {"largest": 2**20, "asked": 2**23, "cut_at": 2**21}, Verdict.AGREES, ""),
        ("exec_bytes", {"kept": "base64"}, Verdict.DIFFERS, "report it"),
        ("exit_codes", {"exit_75": {"status": 200}, "kill_9": {"status": 200}}, Verdict.DIFFERS, "report it"),
        ("missing_program", {"status": 200, "exit_code": 127}, Verdict.AGREES, ""),
        ("missing_program", {"status": 200, "text": EXEC_ERROR.format(2), "stream": "stdout"}, Verdict.AGREES, ""),
        ("missing_program", {"status": 200, "text": EXEC_ERROR.format(11)}, Verdict.DIFFERS, "report it"),
        ("missing_program", {"status": 200, "text": "gone", "stream": "stdout"}, Verdict.DIFFERS, "report it"),
        ("longest_exec", {"asked_s": 55, "works_s": 55, "refused": []}, Verdict.AGREES, "--save"),
        ("longest_exec", {"asked_s": 10, "works_s": 10, "refused": ["400 too long"]}, Verdict.DIFFERS, "shorter"),
        ("longest_exec", {"asked_s": 55, "ended_s": 25.2, "answer": "408", "refused": []}, Verdict.AGREES, ""),
        ("longest_exec", {"asked_s": 55, "ended_s": 20.1, "answer": "408", "refused": []}, Verdict.DIFFERS, "halves"),
        ("burst", {"sent": 10, "ok": 3, "limited": 7}, Verdict.AGREES, ""),
        ("burst", {"sent": 10, "ok": 1, "limited": 9}, Verdict.DIFFERS, "lower rate_limits"),
        ("machine", {"uid": 0, "arch": "x86_64", "python3": "/bin/python3", "git": ""}, Verdict.DIFFERS, "git"),
        ("machine", {"uid": 1000, "arch": "aarch64", "python3": "p", "git": "g"}, Verdict.DIFFERS, "linux/amd64"),
        ("clock", {"skew_s": -90.0}, Verdict.DIFFERS, "times"),
        ("egress", {"host": "h", "error": "gaierror"}, Verdict.DIFFERS, "cloning"),
        ("disk", {"mb": 64, "seconds": 16}, Verdict.DIFFERS, "image"),
        ("exit_1", {"destroyed_s": None, "state": "stopped", "watched_s": 50}, Verdict.DIFFERS, "reap"),
        ("duplicate_name", {"answer": "200", "made_another": True, "recognised": False}, Verdict.DIFFERS, "twice"),
        ("duplicate_name", {"answer": "422 x", "made_another": False, "recognised": False}, Verdict.DIFFERS, "text"),
        ("machine_limit", {"refused": True, "text": "limit"}, Verdict.DIFFERS, "max_concurrency"),
        ("org_machines", {"count": 18}, Verdict.AGREES, ""),
        ("org_machines", {"count": 19}, Verdict.DIFFERS, "limit"),
        ("token", {"tokens": 1, "for_apps": 0, "of_people": 1}, Verdict.DIFFERS, "fly tokens create"),
        (
            "stopping",
            {"exec_works": True, "exec": "200", "asked_s": 10.0, "ended_s": 5.1, "watched_s": 25.0},
            Verdict.DIFFERS,
            "lost",
        ),
        ("delete", {"gone_s": 1.0, "then": "404"}, Verdict.AGREES, ""),
    ],
)
def test_what_follows(name: str, found: dict[str, Any], verdict: Verdict, follows: str) -> None:
    """Each point says whether Fly is as assumed, and what follows when it is not."""
    told = row(name, found)
    assert (told.verdict, follows in told.follows) == (verdict, True), told
    assert told.found and told.measured == found


def test_what_was_not_measured() -> None:
    """A point that could not be measured says why, and what flaude goes by then; each point has a source."""
    told = row("exec_body", None, "403 no")
    assert (told.verdict, told.found, told.measured) == (Verdict.NOT_MEASURED, "403 no", {})
    assert all(known.assumed and known.source for known in ASSUMPTIONS.values())


LONGEST = {"asked_s": 55.0, "works_s": 55.0, "refused": []}


def test_the_next_runs_go_by_what_was_measured() -> None:
    """Bodies stay a little under the largest that worked, a wait leaves room for its call; else all is as usual."""
    measured: dict[str, measuring.Found] = {
        "exec_body": {"largest": 64_000, "refused": 200_000, "recognised": True},
        "exec_stdin": {"sent": 11, "arrived": 11},
        "exec_output": {"largest": 32_768, "asked": 65_536, "cut_at": 50_000},
        "longest_exec": LONGEST,
    }
    limits = saved.of_measurements(measured, AT).limits()
    assert limits == ExecLimits(body_bytes=63_488, answer_bytes=48_976, stdin=True, longest_wait_s=45.0)
    assert saved.of_measurements({}, AT).limits() == ExecLimits()


@pytest.mark.parametrize(
    ("longest", "wait_s"),
    [
        (LONGEST, 45.0),
        ({**LONGEST, "works_s": 25.0, "refused": ["400"]}, 15.0),
        ({**LONGEST, "works_s": 10.0, "refused": ["400"]}, 2.0),
        ({**LONGEST, "works_s": 3.0}, 15.0),
        ({**LONGEST, "works_s": None, "ended_s": 30.2}, 19.2),
        ({**LONGEST, "works_s": None, "ended_s": 5.6}, 2.0),
        ({**LONGEST, "works_s": None, "ended_s": 0.2}, 15.0),
    ],
)
def test_how_long_pulls_wait_then(longest: dict[str, Any], wait_s: float) -> None:
    """A wait with its margin stays within what worked, in 2 to 60 s; a short try, or a blip, says nothing."""
    assert saved.of_measurements({"longest_exec": longest}, AT).limits().longest_wait_s == pytest.approx(wait_s)


def test_an_output_of_no_bytes_is_not_kept() -> None:
    """Where no output has arrived, the next runs go by what is assumed."""
    found = {"largest": 0, "asked": 32_768, "error": "502"}
    assert saved.of_measurements({"exec_output": found}, AT).limits() == ExecLimits()


def test_each_api_has_its_own_measurements() -> None:
    """What is kept of one API says nothing of another one, and is kept when another one is measured."""
    kept = Saved(at=AT, body_bytes=64_000)
    file = saved.save(URL, kept)
    saved.save("http://127.0.0.1:4280", Saved(at=AT))
    assert file == home_folder() / "measured.json"
    assert saved.load(URL) == kept and saved.load("https://elsewhere.example.com") is None
    assert [path.name for path in file.parent.iterdir()] == ["measured.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"version": 1}',
        "\x00",
        "[" * 100_000,
        json.dumps({"version": 1, "apis": {URL: {"at": "yesterday"}}}),
        json.dumps({"version": 1, "apis": {URL: {"at": "2026-11-30T00:00:00Z", "body_bytes": -1}}}),
        json.dumps({"version": 1, "apis": {URL: [1]}}),
        json.dumps({"version": 2, "apis": {URL: {"at": "2026-11-30T00:00:00Z"}}}),
    ],
)
def test_a_file_that_is_of_no_use(content: str, caplog: pytest.LogCaptureFixture) -> None:
    """A broken file, or a newer flaude's, counts for nothing; the log says so in one line, and which file it is."""
    home_folder().mkdir()
    (home_folder() / "measured.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert saved.measured_limits(URL) is None
    (record,) = caplog.records
    assert str(home_folder() / "measured.json") in record.getMessage()


def test_a_newer_file_is_not_overwritten() -> None:
    """What a newer flaude has measured is not lost; a file that is broken is written anew."""
    home_folder().mkdir()
    file = home_folder() / "measured.json"
    newer = json.dumps({"version": 2, "other": "form"})
    file.write_text(newer)
    with pytest.raises(NewerFileError, match=r"measured\.json is of a newer flaude"):
        saved.save(URL, Saved(at=AT))
    assert file.read_text() == newer
    file.write_text("{")
    saved.save(URL, Saved(at=AT))
    assert saved.load(URL) == Saved(at=AT)


def test_without_a_file_nothing_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Where nothing was measured, flaude goes by what it assumes."""
    assert not (tmp_path / "flaude-home").exists()
    assert saved.measured_limits(URL) is None and caplog.records == []
