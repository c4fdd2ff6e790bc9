"""Whoever scrapes, or hangs while it does, never touches inspection."""

from __future__ import annotations

import socket
import threading
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from daemon_line import Line, good, wait_for
from tiny_bundle import make_bundle

from edge_ad.metrics import MOST_CLIENTS

HANGS = (
    b"",  # connects, and says nothing
    b"GET /metrics HT",  # stops in the middle
    b"GET /metrics HTTP/1.1\r\nHost: line\r\n\r\n" * 50,  # asks again and again, and reads nothing
)


def test_scrapers_that_hang_cost_inspection_nothing(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path) as line, ExitStack() as stack:
        address = urllib.parse.urlsplit(line.daemon.http.url)
        threads = threading.active_count()
        for number in range(60):
            client = socket.create_connection((address.hostname, address.port), timeout=10)
            stack.enter_context(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.sendall(HANGS[number % len(HANGS)])
            line.feed(good(number))
            assert line.verdict()[1].verdict == "PASS"
        wait_for(lambda: threading.active_count() <= threads + MOST_CLIENTS)
        with urllib.request.urlopen(line.daemon.http.url, timeout=10) as answer:
            text = answer.read().decode()
        assert 'edge_ad_parts_total{reason="none",verdict="PASS"} 60.0' in text
        assert line.metric("edge_ad_deadline_missed_total") == 0
