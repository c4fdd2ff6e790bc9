"""Known parts prove that the line rejects what is bad; where they do not, nobody is told they did."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import make_bundle
from tiny_station import ENTRY

from edge_ad.audit import Event, read_events
from edge_ad.config import parse_station
from edge_ad.daemon.challenge import FILE
from edge_ad.errors import ConfigError, DeliveryError
from edge_ad.evidence.entry import read_entries
from edge_ad.evidence.find import Query, find_parts

HOUR_NS = 3_600_000_000_000


def on_record(state: Path) -> list[Event]:
    return [event for event in read_events(state)[0] if event.what.startswith("challenge")]


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
        wait_for(lambda: challenge(line)["recorded"] == "")
        wait_for(lambda: line.metric("edge_ad_parts_total", verdict="PASS", reason="none") == 3)
        assert line.metric("edge_ad_parts_total", verdict="REJECT", reason="score") == 0
        assert line.metric("edge_ad_challenge_parts_total", verdict="REJECT") == 2
        assert line.metric("edge_ad_challenges_total", result="passed") == 1
        assert line.metric("edge_ad_rejects_alarm", kind="row") == 0
        wait_for(lambda: len(on_record(tmp_path / "s")) == 1)
        assert line.metric("edge_ad_challenge_age_seconds") < 60  # type: ignore[operator]
    kept = list(find_parts(tmp_path / "s", Query(), lambda line: pytest.fail(line)))
    assert [bool(one.row.challenge) for one in kept] == [False, False, True, True, True, True, False]
    (event,) = on_record(tmp_path / "s")
    assert (event.what, event.who) == ("challenge passed", "ana")
    assert "P3 REJECT: REJECT score" in event.detail["parts"]


@pytest.mark.parametrize("bad", ["passes", "rejected", "fault"])
def test_the_first_part_that_is_wrong_fails_the_round_and_no_more_of_it_passes(
    tmp_path: Path, bad: str
) -> None:
    make_bundle(tmp_path / "s", threshold=1e9 if bad == "passes" else 1e-6 if bad == "rejected" else 0.0)
    with Line(tmp_path / "s", camera_options={"dark": 8}) as line:
        begin(line, *(["PASS", "PASS"] if bad == "rejected" else ["REJECT", "PASS"]))
        # A dead sensor's picture is FAULT, which proves nothing either.
        line.feed(BLACK if bad == "fault" else good(5), good(1), good(2))
        told = [line.verdict()[1] for _ in range(3)]
        assert [one.challenge for one in told] == [True, True, False]
        assert [f"{one.verdict} {one.reason}".strip() for one in told] == {
            "passes": ["FAULT challenge", "FAULT challenge", "PASS"],  # it is known to be bad
            "rejected": ["REJECT score"] * 3,
            "fault": ["FAULT dark", "FAULT challenge", "PASS"],
        }[bad]
        ended = challenge(line)
        assert ended["result"] == "failed"
        assert ended["why"].startswith("part 1 should be")
        assert [part["verdict"] for part in ended["parts"]][:1] == [
            {"passes": "PASS", "rejected": "REJECT", "fault": "FAULT"}[bad]
        ]
        assert line.metric("edge_ad_challenges_total", result="failed") == 1
        assert line.metric("edge_ad_challenge_due") == 1  # whatever the schedule


def test_a_round_that_fails_revokes_what_was_proved_also_over_a_restart(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    settings = {"every_hours": 8.0, "block": True, "parts": ["PASS", "REJECT"]}
    with Line(tmp_path / "s", options={"challenge": settings}) as line:
        for second, expected in (
            (BLACK, ["PASS", "REJECT score", "PASS"]),
            (good(1), ["PASS", "FAULT challenge", "FAULT challenge"]),
        ):
            begin(line)
            line.feed(good(0), second, good(2))
            assert line.verdicts(3) == expected
    with Line(tmp_path / "s", options={"challenge": settings}) as line:
        line.feed(good(3))
        assert line.verdicts(1) == ["FAULT challenge"]


def test_no_part_passes_between_a_change_and_its_challenge(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    make_bundle(tmp_path / "s", product="other", threshold=1e9)
    settings = {"every_hours": 8.0, "block": True, "parts": ["REJECT"]}
    options = {"challenge": settings, "products": ["default", "other"]}
    with Line(tmp_path / "s", options=options) as line:
        begin(line)
        line.feed(BLACK, good(0))
        assert line.verdicts(2) == ["REJECT score", "PASS"]
        asked = line.daemon.change_product("other")
        index = 1
        while not asked.done():
            line.feed(good(index))
            assert line.verdicts(1)[0] in ("PASS", "FAULT changeover", "FAULT challenge")
            index += 1
        faults = line.daemon.loop.faults
        line.feed(*(good(i) for i in range(6)))
        assert line.verdicts(6) == ["FAULT challenge"] * 6  # the threshold would let any pass
        assert line.daemon.loop.faults == faults  # no line stop: parts that end it are to come


def test_a_round_that_nobody_goes_on_with_ends_by_itself(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        line.control.request("challenge", expected=["PASS", "REJECT"], who="ana", seconds=0.3)
        line.feed(good(0))
        line.verdicts(1)
        wait_for(lambda: challenge(line)["result"] == "cancelled")
        assert challenge(line)["why"] == "its parts did not come in time"
        line.feed(good(1))
        assert not line.verdict()[1].challenge
        for seconds in (0, -1, 1e9):
            with pytest.raises(DeliveryError, match="may take up to"):
                line.control.request("challenge", seconds=seconds)


def test_parts_are_collected_or_known_never_both(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        begin(line, "PASS")
        with pytest.raises(DeliveryError, match="a challenge goes on"):
            line.control.request("collect", parts=2, directory=str(tmp_path / "c"))
        line.feed(good(0))
        line.verdicts(1)
        line.control.request("collect", parts=2, directory=str(tmp_path / "c"))
        with pytest.raises(DeliveryError, match="are being collected"):
            begin(line, "PASS")


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
    settings = {"every_hours": 8.0, "parts": ["REJECT"]}
    options = {"challenge": settings, "products": ["default", "other"]}

    def due(line: Line) -> bool:
        line.daemon.beside.supervise()  # as the main thread does
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


def test_a_bad_part_that_would_have_passed_is_kept_with_its_score(tmp_path: Path) -> None:
    """What a line must know of most."""
    make_bundle(tmp_path / "s", threshold=1e9)
    with Line(tmp_path / "s", options={"challenge": {"at_start": True, "block": True}}) as line:
        begin(line, "REJECT")
        line.feed(BLACK, good(0))
        assert line.verdicts(2) == ["FAULT challenge", "FAULT challenge"]  # the second is of no round
        wait_for(lambda: challenge(line)["recorded"] == "")
    (event,) = on_record(tmp_path / "s")
    assert re.fullmatch(r"P0 REJECT: PASS [\d.]+", event.detail["parts"])
    (kept,) = read_entries(tmp_path / "s", "default")[0]
    assert (kept.key, kept.verdict, list(kept.record.pictures)) == ("P0", "FAULT challenge", ["top"])
    assert "must not pass, and scores" in kept.record.body.detail


def test_a_round_of_fewer_parts_proves_nothing(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    options = {"challenge": {"at_start": True, "block": True, "parts": ["PASS", "REJECT"]}}
    with Line(tmp_path / "s", options=options) as line:
        begin(line, "PASS", "PASS")
        line.feed(good(0), good(1), good(2))
        assert line.verdicts(3) == ["PASS", "PASS", "FAULT challenge"]
        assert (challenge(line)["result"], challenge(line)["why"]) == (
            "passed", "of fewer parts than challenge.parts: proves nothing",
        )  # fmt: skip
        begin(line, "REJECT", "PASS", "REJECT")
        line.feed(BLACK, good(3), BLACK, good(4))
        assert line.verdicts(4) == ["REJECT score", "PASS", "REJECT score", "PASS"]


def test_an_override_ends_by_itself_and_is_on_record(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    options = {"challenge": {"at_start": True, "block": True}}

    def override(line: Line, seconds: object, reason: str = "night shift") -> dict[str, Any]:
        return line.control.request("challenge_override", seconds=seconds, who="ana", reason=reason)

    with Line(tmp_path / "s", options=options) as line:
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT challenge"]
        for seconds, reason, told in (
            (60, " ", "needs who and a reason"), (1e6, "x", "lasts 0 to"), (-1, "x", "lasts 0 to"),
            ("1", "x", "needs seconds"), (float("nan"), "x", "seconds"),
        ):  # fmt: skip
            with pytest.raises(DeliveryError, match=told):
                override(line, seconds, reason)
        assert override(line, 600)["challenge_override_s"] > 590
        line.feed(good(1))
        assert line.verdicts(1) == ["PASS"]
        assert line.metric("edge_ad_challenge_due") == 1
        assert line.metric("edge_ad_challenge_override_seconds") > 500  # type: ignore[operator]
        override(line, 0.3)
        wait_for(lambda: bool(line.control.request("status")["challenge_blocks"]))
        line.feed(good(2))
        assert line.verdicts(1) == ["FAULT challenge"]
        override(line, 600)
    with Line(tmp_path / "s", options=options) as line:  # it ended with the daemon
        line.feed(good(3))
        assert line.verdicts(1) == ["FAULT challenge"]
    events = on_record(tmp_path / "s")
    assert [(event.what, event.who, event.reason) for event in events] == [
        ("challenge override", "ana", "night shift")
    ] * 3
    assert events[0].detail["until"] > events[0].time


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
            "cancelled", "another bundle or engine is in use",
        )  # fmt: skip
        begin(line, "PASS")
        assert line.control.request("challenge_cancel")["challenge"]["why"] == "by command"
        begin(line, "PASS")
    events = on_record(tmp_path / "s")
    assert [event.reason for event in events] == [
        "another bundle or engine is in use", "by command", "the daemon stopped",
    ]  # fmt: skip


def test_a_full_disk_disproves_nothing_and_no_more_of_the_round_passes(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    options = {"verdicts": {"consumers": ["gate"]}, "monitor": {"rejects_in_row": 3}}
    with Line(tmp_path / "s", options=options) as line:
        loop, channel = line.daemon.loop, line.daemon.channels.verdicts
        assert channel is not None
        full = SimpleNamespace(full="no room", offer=channel.offer)  # as the channel says it then
        begin(line, "PASS", "PASS", "PASS", "REJECT")
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        loop.verdicts = full  # type: ignore[assignment]
        line.feed(good(1))
        assert line.verdicts(1) == ["FAULT not_kept"]
        loop.verdicts = channel
        assert (challenge(line)["result"], challenge(line)["why"]) == ("cancelled", "no room")
        line.feed(good(2), good(3), good(4))
        assert line.verdicts(3) == ["FAULT challenge", "FAULT challenge", "PASS"]
        loop.verdicts = full  # type: ignore[assignment]
        line.feed(*map(good, range(5, 9)))
        assert line.verdicts(4) == ["FAULT not_kept"] * 4
        wait_for(lambda: line.metric("edge_ad_parts_total", verdict="FAULT", reason="not_kept") == 4)
        assert line.metric("edge_ad_rejects_alarm", kind="row") == 0
        assert line.metric("edge_ad_challenges_total", result="failed") == 0
    (event,) = on_record(tmp_path / "s")
    assert (event.what, event.reason) == ("challenge cancelled", "no room")


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
    with pytest.raises(ConfigError, match=r"challenge\.parts: \['PASS'\] proves nothing"):
        parse_station({**table, "challenge": {"at_start": True, "parts": ["PASS"]}})


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
            asked = command("--expect", "pass,reject,pass", "--person", "ben")
            wait_for(lambda: line.daemon.beside.challenges.round is not None, 30)
            line.feed(good(0), last, good(2))
            found, text = ended(asked)
            assert found == code, text
            assert re.search(r"1  P\d+  should be PASS: PASS, score", text)
            assert told in text
        assert ended(command("--timeout", "0.5"))[0] == 1
        assert challenge(line)["result"] == "cancelled"
        assert ended(command("--expect", "good"))[0] == 2
        assert "challenge 3 cancelled" in ended(command("--cancel"))[1]
