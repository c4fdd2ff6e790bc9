"""A candidate judges the line's parts beside the bundle in use, and decides nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from daemon_line import Line, good, wait_for
from tiny_bundle import HEIGHT, WIDTH, make_bundle
from tiny_station import active_bundle, edge_ad, write_parts, write_station

from edge_ad.bundle import candidate_path, current_path, shadow
from edge_ad.config import load_station
from edge_ad.shadow.log import log_path, read_pairs

PATIENCE_S = 120  # it computes only while nothing else wants to


def children() -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.Error):
            if "edge_ad.shadow.child" in " ".join(one.cmdline()):
                found.append(one)
    return found


def up(line: Line) -> bool:
    return line.metric("edge_ad_shadow_up") == 1


def feed_until(line: Line, result: str, count: int) -> int:
    """Feed good parts, one after the other, until so many had this result; returns how many."""
    fed, end = 0, time.monotonic() + PATIENCE_S
    while line.metric("edge_ad_shadow_parts_total", result=result) < count:  # type: ignore[operator]
        line.feed(good(fed))
        assert line.verdicts(1) == ["PASS"]
        fed += 1
        assert time.monotonic() < end
    return fed


def test_it_says_where_it_would_decide_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edge_ad")
    state = tmp_path / "s"
    make_bundle(state, name="b1", threshold=1e6)
    make_bundle(state, name="b2", threshold=1e-6, use=False)
    file = tmp_path / "line.toml"
    file.write_text(
        'schema = 1\nstation = "line1"\nstate_dir = "s"\n[[camera]]\nname = "top"\nuri = "fake://"\n'
    )
    with Line(state) as line:
        line.daemon.station = load_station(file)
        assert not up(line)
        assert children() == []
        shadow(state, "default", "b2")
        line.control.request("reload", timeout_s=PATIENCE_S)
        wait_for(lambda: up(line), PATIENCE_S)
        assert line.control.request("status")["shadow"] == "b2"
        (child,) = children()
        assert child.nice() == 19
        assert os.sched_getscheduler(child.pid) == os.SCHED_IDLE
        feed_until(line, "would_reject", 5)
        line.control.request("reload", timeout_s=PATIENCE_S)  # changes nothing, and ends nothing
        assert up(line)
        assert children() == [child]
        told = edge_ad("bundle", "compare", "--state", state, "--json")
        assert told.returncode == 0, told.stderr
        found = json.loads(told.stdout)
        assert (found["in_use"], found["shadow"], found["agree"]) == ("b1", "b2", 0)
        assert found["parts"] == found["changed"]["PASS -> REJECT"] >= 5
        shown = edge_ad("bundle", "compare", "--state", state, "--last", "1").stdout
        assert "b2 beside b1" in shown
        assert "PASS -> REJECT" in shown

        child.send_signal(signal.SIGKILL)
        line.feed(*(good(i) for i in range(5)))
        assert line.verdicts(5) == ["PASS"] * 5
        wait_for(lambda: not up(line))
        line.control.request("reload", timeout_s=PATIENCE_S)
        wait_for(lambda: up(line), PATIENCE_S)

        shadow(state, "default", "")
        line.control.request("reload", timeout_s=PATIENCE_S)
        wait_for(lambda: children() == [])
        assert not up(line)
    assert "shadow: b2 does not judge: the shadow's process ended" in caplog.text


def test_it_agrees_with_itself_and_is_ended_with_the_daemon(tmp_path: Path) -> None:
    state = tmp_path / "s"
    make_bundle(state, name="b1", threshold=1e6)
    shadow(state, "default", "b1")
    with Line(state) as line:
        wait_for(lambda: up(line), PATIENCE_S)
        feed_until(line, "agree", 3)
        # Whatever it would say of them, there is no verdict to compare with.
        line.feed(np.zeros((HEIGHT + 1, WIDTH), np.uint8))
        assert line.verdicts(1) == ["FAULT frame_size"]
    assert children() == []
    pairs = list(read_pairs(log_path(state, "default", "b1")))
    assert len(pairs) >= 3
    for pair in pairs:
        assert pair.ratio == pytest.approx(pair.shadow_ratio, rel=1e-4)
        assert (pair.verdict, pair.shadow_verdict) == ("PASS", "PASS")


def test_one_that_does_not_fit_the_station_is_named_and_parts_are_judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edge_ad")
    state = tmp_path / "s"
    make_bundle(state, name="b1", threshold=1e6)
    make_bundle(state, name="b2", cameras=("side",), use=False)
    shadow(state, "default", "b2")
    with Line(state) as line:
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        wait_for(lambda: "shadow: " in caplog.text)
        assert not up(line)
    assert "was made for cameras ['side']" in caplog.text


def test_a_calibration_may_leave_the_bundle_in_use(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    write_parts(tmp_path / "line", 30)
    calibrate = ("calibrate", "-c", station.path)
    alone = edge_ad(*calibrate, "--from", tmp_path / "line", "--shadow")
    assert alone.returncode == 2
    assert "has no bundle in use that another could judge beside" in alone.stderr
    assert edge_ad(*calibrate, "--from", tmp_path / "line").returncode == 0
    before = active_bundle(station)
    done = edge_ad(*calibrate, "--refit", "--shadow")
    assert done.returncode == 0, done.stderr
    assert current_path(station.state_path, "disc") == before
    candidate = candidate_path(station.state_path, "disc")
    assert candidate is not None
    assert candidate != before
    assert f"shadow     disc: {candidate.name}" in done.stdout
    listed = edge_ad("bundle", "list", "-c", station.path).stdout.splitlines()
    assert [line.rsplit("  ", 1)[-1] for line in listed] == ["active", "shadow"]
    both = edge_ad("bundle", "shadow", candidate.name, "--stop", "-c", station.path)
    assert both.returncode == 2
    none = edge_ad("bundle", "shadow", "nothing", "-c", station.path)
    assert none.returncode == 3
    assert edge_ad("bundle", "shadow", "--stop", "-c", station.path).returncode == 0
    assert candidate_path(station.state_path, "disc") is None
    unasked = edge_ad("bundle", "compare", "-c", station.path)
    assert unasked.returncode == 3
    assert "'edge-ad bundle shadow ID' begins that" in unasked.stderr
    audit = edge_ad("audit", "-c", station.path, "--json").stdout.splitlines()
    assert [json.loads(line)["what"] for line in audit] == [
        "calibrate", "calibrate shadow", "shadow", "shadow refused", "shadow",
    ]  # fmt: skip
