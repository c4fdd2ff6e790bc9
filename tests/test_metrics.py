from __future__ import annotations

import socket
import struct
import threading
import time
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge_ad.errors import DeliveryError
from edge_ad.metrics import LATENCY_BUCKETS_MS, Metrics, MetricsServer, latency_buckets
from edge_ad.verdict import Decision, Reason

NAN = float("nan")


def test_deadline_is_a_bucket_exactly_and_once() -> None:
    assert 0.0375 in latency_buckets(37.5)
    assert len(latency_buckets(37.5)) == len(LATENCY_BUCKETS_MS) + 1
    assert latency_buckets(500.0) == sorted(ms / 1000 for ms in LATENCY_BUCKETS_MS)


def test_part_at_the_deadline_is_within_it() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, 37.5)
    for seconds in (0.0375, 0.0376):
        metrics.part(Decision.PASS, Reason.NONE, seconds, 0.5, [0.0] * 6)
    assert registry.get_sample_value("edge_ad_part_seconds_bucket", {"le": "0.0375"}) == 1


def test_every_verdict_and_reason_is_there_from_the_start() -> None:
    registry = CollectorRegistry()
    Metrics(registry, 500.0)
    text = generate_latest(registry).decode()
    for reason in Reason:
        verdict = {Reason.NONE: "PASS", Reason.SCORE: "REJECT"}.get(reason, "FAULT")
        label = f'reason="{reason.value or "none"}",verdict="{verdict}"'
        assert f"edge_ad_parts_total{{{label}}} 0.0" in text
    assert text.count("edge_ad_parts_total{") == len(Reason)
    assert "_created" not in text


def test_part_without_a_score_is_not_in_the_ratio() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, 500.0)
    metrics.part(Decision.FAULT, Reason.LATE, 0.6, NAN, [0.0] * 6)
    metrics.part(Decision.REJECT, Reason.SCORE, 0.1, 1.005, [0.0] * 6)
    assert registry.get_sample_value("edge_ad_score_ratio_count") == 1
    assert registry.get_sample_value("edge_ad_score_ratio_bucket", {"le": "1.0"}) == 0
    assert registry.get_sample_value("edge_ad_score_ratio_bucket", {"le": "1.01"}) == 1


def test_another_bundle_takes_the_place_of_the_first() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, 500.0)
    metrics.describe_bundle(("valve", "b1", "aa", "tiny", "openvino-f32"), 2.0, {"expected": 0.01})
    metrics.describe_bundle(("valve", "b2", "bb", "tiny", "openvino-f32"), 3.0, {"expected": 0.02})
    text = generate_latest(registry).decode()
    assert 'bundle="b1"' not in text
    assert 'bundle="b2"' in text
    ratio = registry.get_sample_value("edge_ad_promised_false_reject_ratio", {"kind": "expected"})
    assert ratio == 0.02
    metrics.describe_bundle(None, 0.0, {})
    assert "edge_ad_bundle_info{" not in generate_latest(registry).decode()


def test_detection_that_was_not_measured_has_no_series() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, 500.0)
    metrics.describe_detection({"": (0.9, 0.7, 10), "dent": (0.9, 0.7, 10)})
    ratio = {"kind": "dent", "bound": "confident"}
    assert registry.get_sample_value("edge_ad_detection_ratio", ratio) == 0.7
    metrics.describe_detection({})
    text = generate_latest(registry).decode()
    assert "edge_ad_detection_ratio{" not in text
    assert "edge_ad_detection_parts{" not in text


def test_server_answers_beside_a_client_that_says_nothing() -> None:
    registry = CollectorRegistry()
    Metrics(registry, 500.0)
    server = MetricsServer(registry, "127.0.0.1", 0)
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)):
        for _ in range(3):
            with urllib.request.urlopen(server.url, timeout=5) as answer:
                assert b"edge_ad_parts_total" in answer.read()
    before = time.monotonic()
    server.close()
    assert time.monotonic() - before < 5
    assert "metrics" not in [thread.name for thread in threading.enumerate()]


def test_client_that_goes_away_leaves_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    server = MetricsServer(CollectorRegistry(), "127.0.0.1", 0)
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.2)  # it is being listened to
    time.sleep(0.2)
    server.close()
    assert capsys.readouterr().err == ""


def test_port_in_use_names_the_key() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DeliveryError, match=r"metrics\.port: 127\.0\.0\.1:\d+ .*in use"):
            MetricsServer(CollectorRegistry(), "127.0.0.1", taken.getsockname()[1])
