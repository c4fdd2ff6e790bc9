"""Known parts prove that the line rejects what is bad; where they do not, nobody is told they did."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import make_bundle
from tiny_station import ENTRY

from edge_ad.audit import read_events
from edge_ad.config import parse_station
from edge_ad.daemon.challenge import FILE
from edge_ad.errors import ConfigError, DeliveryError
from edge_ad.evidence.find import Query, find_parts

HOUR_NS = 3_600_000_000_000


def challenge(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = line.control.request("status")["challenge"]
    return found


def begin(line: Line, *expected: str) -> None:
    line.control.request("challenge", expected=list(expected), who="ana")


def test_a_round_that_passes_is_on_record_and_no_yield(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s", options={"monitor": {"rejects_in_row": 1}}) as line:
        line.feed(good(0), good(1))
        assert line.verdicts(2) == ["PASS", "PASS"]
        begin(line, "PASS", "REJECT", "REJECT", "PASS")
        line.feed(good(2), BLACK, BLACK, good(3), good(4))
        told = [line.verdict()[1] for _ in range(5)]
        assert [one.verdict for one in told] == ["PASS", "REJECT", "REJECT", "PASS", "PASS"]
        assert [one.challenge for one in told] == [True, True, True, True, False]
        assert challenge(line)["result"] == "passed"
        assert [part["part"] for part in challenge(line)["parts"]] == ["P2", "P3", "P4", "P5"]
        wait_for(lambda: line.metric("edge_ad_parts_total", verdict="PASS", reason="none") == 3)
        assert line.metric("edge_ad_parts_total", verdict="REJECT", reason="score") == 0
        assert line.metric("edge_ad_challenge_parts_total", verdict="REJECT") == 2
        assert line.metric("edge_ad_challenges_total", result="passed") == 1
        assert line.metric("edge_ad_rejects_alarm", kind="row") == 0
        wait_for(lambda: len(read_events(tmp_path / "s")[0]) == 1)
        assert line.metric("edge_ad_challenge_age_seconds") < 60  # type: ignore[operator]
    kept = list(find_parts(tmp_path / "s", Query(), lambda line: pytest.fail(line)))
    assert [bool(one.row.challenge) for one in kept] == [False, False, True, True, True, True, False]
    (event,) = read_events(tmp_path / "s")[0]
    assert (event.what, event.who) == ("challenge passed", "ana")
    assert "P3 REJECT: REJECT score" in event.detail["parts"]


@pytest.mark.parametrize("bad", ["passes", "rejected", "fault"])
def test_the_first_part_that_is_wrong_ends_the_round(tmp_path: Path, bad: str) -> None:
    make_bundle(tmp_path / "s", threshold=1e9 if bad == "passes" else 1e-6 if bad == "rejected" else 0.0)
    with Line(tmp_path / "s", camera_options={"dark": 8}) as line:
        first = good(0) if bad == "rejected" else BLACK
        begin(line, *(["PASS", "PASS"] if bad == "rejected" else ["REJECT", "PASS"]))
        if bad == "passes":  # a dead sensor's picture would be FAULT, which proves nothing either
            first = good(5)
        line.feed(first, good(1))
        told = [line.verdict()[1] for _ in range(2)]
        assert [one.challenge for one in told] == [True, False]
        ended = challenge(line)
        assert ended["result"] == "failed"
        assert ended["why"].startswith("part 1 should be")
        assert len(ended["parts"]) == 1
        assert line.metric("edge_ad_challenges_total", result="failed") == 1


def test_while_one_is_due_nothing_passes_if_that_is_wanted(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    options = {"challenge": {"at_start": True, "block": True, "parts": ["REJECT"]}}
    for _ in range(2):  # at every start
        with Line(tmp_path / "s", options=options) as line:
            line.feed(good(0), BLACK)
            assert line.verdicts(2) == ["FAULT challenge", "FAULT challenge"]
            assert line.control.request("status")["challenge_due"]
            assert line.metric("edge_ad_challenge_due") == 1
            begin(line, "PASS")
            line.feed(BLACK, good(1))
            assert line.verdicts(2) == ["REJECT score", "FAULT challenge"]  # failed: still due
            begin(line)  # the station file's
            line.feed(BLACK, good(2))
            assert line.verdicts(2) == ["REJECT score", "PASS"]
            assert not line.control.request("status")["challenge_due"]
            assert (tmp_path / "s" / "evidence").is_dir()


def test_it_is_due_again_by_time_by_another_bundle_and_when_the_clock_went_back(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    make_bundle(tmp_path / "s", product="other", seed=2)
    wall = [time.time_ns()]
    options = {"challenge": {"every_hours": 8.0}, "products": ["default", "other"]}

    def due(line: Line) -> bool:
        time.sleep(0.15)  # the main thread comes by
        return bool(line.control.request("status")["challenge_due"])

    with Line(tmp_path / "s", options=options, wall=lambda: wall[0]) as line:
        assert due(line)  # there was none ever
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]  # it is not to block
        begin(line, "REJECT")
        line.feed(BLACK)
        line.verdicts(1)
        assert not due(line)
        wall[0] += 7 * HOUR_NS
        assert not due(line)
        line.control.request("product", name="other", timeout_s=30)
        assert due(line)
        line.control.request("product", name="default", timeout_s=30)
        assert not due(line)
        wall[0] += 2 * HOUR_NS
        assert due(line)
        wall[0] -= 10 * HOUR_NS
        assert due(line)
        wall[0] += 5 * HOUR_NS
        wait_for(lambda: (tmp_path / "s" / FILE).is_file())
    with Line(tmp_path / "s", options=options, wall=lambda: wall[0]) as line:
        assert not due(line)  # it is remembered
        (tmp_path / "s" / FILE).write_bytes(b"\x80garbage")
    with Line(tmp_path / "s", options=options, wall=lambda: wall[0]) as line:
        assert due(line)


def test_a_round_ends_unproved_with_the_bundle_by_command_and_at_a_stop(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    make_bundle(tmp_path / "s", product="other", seed=2)
    with Line(tmp_path / "s", options={"products": ["default", "other"]}) as line:
        begin(line, "PASS", "PASS")
        with pytest.raises(DeliveryError, match=r"round 1 goes on"):
            begin(line, "PASS")
        line.feed(good(0))
        line.verdicts(1)
        line.control.request("product", name="other", timeout_s=30)
        assert (challenge(line)["result"], challenge(line)["why"]) == (
            "cancelled", "another bundle is in use",
        )  # fmt: skip
        begin(line, "PASS")
        assert line.control.request("challenge_cancel")["challenge"]["why"] == "by command"
        begin(line, "PASS")
    events = [event for event in read_events(tmp_path / "s")[0] if event.what.startswith("challenge")]
    assert [event.reason for event in events] == [
        "another bundle is in use", "by command", "the daemon stopped",
    ]  # fmt: skip


def test_what_cannot_be_a_round_is_refused(tmp_path: Path) -> None:
    with Line(tmp_path / "s") as line:
        for expected in (["MAYBE"], "PASS"):
            with pytest.raises(DeliveryError, match="a list of PASS and REJECT"):
                line.control.request("challenge", expected=expected)
        with pytest.raises(DeliveryError, match="no bundle is in use"):
            begin(line, "PASS")
    table = {"schema": 1, "station": "a", "camera": [{"name": "top", "uri": "synthetic://"}]}
    with pytest.raises(ConfigError, match=r"challenge\.block: a round is never due"):
        parse_station({**table, "challenge": {"block": True}})


def test_the_command_waits_for_the_parts_and_says_what_became_of_them(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    file = tmp_path / "line.toml"
    file.write_text(
        'schema = 1\nstation = "line1"\nstate_dir = "s"\n[[camera]]\nname = "top"\nuri = "synthetic://"\n'
    )

    def command(*more: str) -> subprocess.Popen[str]:
        words = [*ENTRY, "challenge", "-c", str(file), *more]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ended(asked: subprocess.Popen[str]) -> tuple[int, str]:
        out, err = asked.communicate(timeout=30)
        return asked.returncode, out + err

    with Line(tmp_path / "s") as line:
        for last, code, told in (
            (BLACK, 0, "challenge 1 passed"),
            (good(1), 1, "failed: part 2 should be REJECT and was PASS"),
        ):  # fmt: skip
            asked = command("--expect", "pass,reject", "--person", "ben")
            wait_for(lambda: line.daemon.beside.challenges.round is not None, 30)
            line.feed(good(0), last)
            found, text = ended(asked)
            assert found == code, text
            assert re.search(r"1  P\d+  should be PASS: PASS, score", text)
            assert told in text
        assert ended(command("--timeout", "0.5"))[0] == 1
        assert challenge(line)["result"] == "cancelled"
        assert ended(command("--expect", "good"))[0] == 2
        assert "challenge 3 cancelled" in ended(command("--cancel"))[1]
