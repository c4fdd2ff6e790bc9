"""The wire between the daemon and a subscriber is cut: it is noticed, and afterwards all is accounted
for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cut_network import DAEMON_IP, CutNetwork, missing

from edge_ad.delivery.curve import write_pair

PUBLISHER = """
import sys, time
from pathlib import Path
from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlServer
from edge_ad.delivery.curve import read_pair
from edge_ad.delivery.endpoint import Access
from edge_ad.delivery.guard import Guard
from edge_ad.delivery.scores import ScorePublisher
from edge_ad.delivery.wire import Header, ScoreBody

root = Path(sys.argv[1])
access = Access("", Guard(read_pair(root / "station.key_secret"), root))
tokens = []  # the socket is the publishing thread's
publisher = ScorePublisher(f"tcp://{sys.argv[2]}:5570", access=access)

def answer(command, args):
    if command == "sync":
        tokens.append(args["token"])
    return {"messages": publisher.snapshot()} if command == "snapshot" else {}

control = ControlServer(f"tcp://{sys.argv[2]}:5571", answer, access)
control.start()
print("up", flush=True)
seq = 0
while True:
    seq += 1
    header = Header(wire.VERSION, "line1", "e1", seq, f"P{seq}", 0, 0, "valve", "")
    publisher.send(wire.encode(header), wire.encode(ScoreBody("PASS", "", 1.0, 2.0)), False, "valve")
    while tokens:
        publisher.send_sync(tokens.pop(0))
    time.sleep(0.02)
"""
# Writes "sequence number, lost" for each part, "silent" when none has come for 1 s.
SUBSCRIBER = """
import sys
from pathlib import Path
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.curve import client_keys
from edge_ad.delivery.scores import ScoreSubscriber

root = Path(sys.argv[1])
keys = client_keys(root / "bridge.key_secret", root / "station.key")
control = ControlClient(f"tcp://{sys.argv[2]}:5571", 30, keys=keys)
scores = ScoreSubscriber(f"tcp://{sys.argv[2]}:5570", keys=keys)
scores.start_from(control, 30)
silent = False
while True:
    message = scores.receive(1.0)
    if message is None:
        silent = True
        print("silent", flush=True)
        continue
    if silent:
        silent = False
        scores.start_from(control, 30)
    print(message[1].seq, scores.lost, flush=True)
"""


def test_a_cut_wire_is_noticed_and_what_was_lost_is_known(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    write_pair(tmp_path, "station")
    write_pair(tmp_path, "bridge")
    log = tmp_path / "log"

    def lines() -> list[str]:
        return log.read_text().splitlines()

    def parts() -> list[list[int]]:
        return [[int(word) for word in line.split()] for line in lines() if line[0].isdigit()]

    with CutNetwork() as network, log.open("w") as out:
        command = [sys.executable, "-c", PUBLISHER, str(tmp_path), DAEMON_IP]
        publisher = subprocess.Popen([*network.daemon, *command], stdout=subprocess.PIPE)
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == b"up\n"
        command = [sys.executable, "-c", SUBSCRIBER, str(tmp_path), DAEMON_IP]
        subscriber = subprocess.Popen([*network.client, *command], stdout=out)
        try:
            _wait(lambda: len(parts()) > 50)
            network.cut()
            # Longer than a connection is believed in: one that survived would lose nothing.
            _wait(lambda: lines().count("silent") >= 9)
            seen = len(parts())
            network.mend()
            _wait(lambda: len(parts()) > seen + 50)
        finally:
            for process in (publisher, subscriber):
                process.kill()
                process.wait()
            publisher.stdout.close()
    told = parts()[:-1]  # the last line may be half a line
    numbers = [seq for seq, _ in told]
    assert numbers == sorted(set(numbers))
    last, lost = told[-1]
    assert lost == last - numbers[0] + 1 - len(numbers)
    assert lost > 0


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
