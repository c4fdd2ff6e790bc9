"""Keys at the sockets of verdicts and triggers: who has none gets nothing, and is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_line import Line, good, wait_for
from tiny_bundle import make_bundle

from edge_ad.delivery.consumer import Delivered, VerdictConsumer
from edge_ad.delivery.curve import Keys, client_keys, write_pair
from edge_ad.delivery.trigger import TriggerClient

KINDS = ("stranger", "another station's", "none")


def keys_of(root: Path, kind: str) -> Keys | None:
    """A client's: on file, not on file, for another station, none."""
    if kind == "none":
        return None
    name, server = ("bridge", "stranger") if kind == "another station's" else (kind, "station")
    return client_keys(root / f"{name}.key_secret", root / f"{server}.key")


@pytest.fixture
def options(tmp_path: Path) -> Iterator[dict[str, Any]]:
    for name in ("station", "bridge", "stranger"):
        write_pair(tmp_path, name)
    (tmp_path / "clients").mkdir()
    (tmp_path / "bridge.key").rename(tmp_path / "clients" / "bridge.key")
    secret, clients = str(tmp_path / "station.key_secret"), str(tmp_path / "clients")
    yield {
        "curve": {"secret": secret, "clients": clients},
        "verdicts": {"consumers": ["gate"], "endpoint": "tcp://127.0.0.1:0", "heartbeat_ms": 50.0},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_consumer_with_a_wrong_key_is_told_nothing_and_counted(
    tmp_path: Path, options: dict[str, Any], kind: str
) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s", options=options, keys=keys_of(tmp_path, "bridge")) as line:
        assert line.daemon.channels.verdicts is not None
        endpoint = line.daemon.channels.verdicts.endpoint
        assert line.metric("edge_ad_denied_total", socket="verdicts") == 0
        strange = VerdictConsumer(endpoint, "gate", keys=keys_of(tmp_path, kind))
        friend = VerdictConsumer(endpoint, "gate", keys=keys_of(tmp_path, "bridge"))
        told: list[Delivered] = []
        heard: list[object] = []

        def step(count: int) -> bool:
            heard.extend(strange.receive())
            told.extend(event for event in friend.receive() if isinstance(event, Delivered))
            return len(told) >= count

        try:
            line.feed(good(0))
            wait_for(
                lambda: step(1) and (line.metric("edge_ad_denied_total", socket="verdicts") or 0) > 0
            )
            line.feed(good(1))
            wait_for(lambda: step(2))
            assert [event.body.verdict for event in told] == ["PASS", "PASS"]
            assert heard == []
            assert line.metric("edge_ad_verdict_consumer_replaced_total", consumer="gate") == 0
            assert line.metric("edge_ad_verdict_refused_total", reason="garbage") == 0
        finally:
            strange.close()
            friend.close()


@pytest.mark.parametrize("kind", KINDS)
def test_trigger_with_a_wrong_key_announces_nothing_and_is_counted(
    tmp_path: Path, options: dict[str, Any], kind: str
) -> None:
    make_bundle(tmp_path / "s")
    options = {**options, "trigger": {"kind": "message", "endpoint": "tcp://127.0.0.1:0"}}
    with Line(tmp_path / "s", options=options, keys=keys_of(tmp_path, "bridge")) as line:
        assert line.daemon.channels.trigger is not None
        endpoint = line.daemon.channels.trigger.endpoint
        with_wrong = TriggerClient(endpoint, timeout_s=0.5, keys=keys_of(tmp_path, kind))
        with_right = TriggerClient(endpoint, timeout_s=20.0, keys=keys_of(tmp_path, "bridge"))
        try:
            assert with_wrong.send("P1").reason == "no_answer"
            wait_for(lambda: (line.metric("edge_ad_denied_total", socket="trigger") or 0) > 0)
            reply = with_right.send("P2")
            assert (reply.accepted, reply.count) == (True, 1)  # the first that was announced at all
        finally:
            with_wrong.close()
            with_right.close()
