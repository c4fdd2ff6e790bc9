"""The wire between the daemon and a consumer of verdicts is cut: both notice, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cut_network import DAEMON_IP, CutNetwork, missing

from edge_ad.delivery.curve import write_pair

# Writes what it tells a person, "given SEQ" for each verdict.
DAEMON = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from channel_line import Metrics, CollectorRegistry, Decision, VerdictServer, open_box, outcome
from edge_ad.delivery.curve import read_pair
from edge_ad.delivery.endpoint import Access
from edge_ad.delivery.guard import Guard

root = Path(sys.argv[1])
say = lambda *words: print(*words, flush=True)
server = VerdictServer(
    f"tcp://{sys.argv[2]}:5572", open_box(root, "e1"), "line1", "e1", lambda: "valve",
    Metrics(CollectorRegistry(), 500.0), time.monotonic_ns, say, lambda why: say("fatal", why),
    100.0, 500.0, Access("", Guard(read_pair(root / "station.key_secret"), root)),
)
server.start()
say("up")
seq = 0
while True:
    seq += 1
    say("given", seq)  # before it is: nobody has what is not said here
    server.offer(outcome(seq, Decision.REJECT if seq % 5 == 0 else Decision.PASS))
    time.sleep(0.02)
"""
# Writes "SEQ live|replayed" for each verdict, or what else happens.
CONSUMER = """
import sys
from pathlib import Path
import zmq
from edge_ad.delivery.consumer import Delivered, VerdictConsumer
from edge_ad.delivery.curve import client_keys

root = Path(sys.argv[1])
keys = client_keys(root / "bridge.key_secret", root / "station.key")
consumer = VerdictConsumer(
    f"tcp://{sys.argv[2]}:5572", "gate", heartbeat_ms=100.0, lost_ms=500.0, keys=keys
)
while True:
    consumer.socket.poll(50)
    for event in consumer.receive():
        if isinstance(event, Delivered):
            print(event.header.seq, "live" if event.live else "replayed", flush=True)
            consumer.ack(event.header.epoch, event.header.seq)
        else:
            print(event, flush=True)
"""


@pytest.mark.parametrize("seconds", [1.5, 8.0], ids=["connection survives", "connection is given up"])
def test_a_cut_wire_is_noticed_by_both_and_no_verdict_is_lost(tmp_path: Path, seconds: float) -> None:
    if why := missing():
        pytest.skip(why)
    for name in ("station", "bridge"):
        write_pair(tmp_path, name)

    def lines(name: str) -> list[str]:
        return (tmp_path / name).read_text().split("\n")[:-1]

    def given() -> int:
        return sum(line.startswith("given") for line in lines("daemon"))

    def told() -> list[list[str]]:
        return [line.split() for line in lines("consumer") if line[0].isdigit()]

    with (
        CutNetwork() as network,
        (tmp_path / "daemon").open("w") as said,
        (tmp_path / "consumer").open("w") as heard,
    ):
        started = [
            subprocess.Popen(
                [*where, sys.executable, "-c", code, str(tmp_path), DAEMON_IP, here], stdout=out
            )
            for where, code, out, here in (
                (network.daemon, DAEMON, said, str(Path(__file__).parent)),
                (network.client, CONSUMER, heard, ""),
            )
        ]
        try:
            _wait(lambda: len(told()) > 20 and told()[-1][1] == "live")
            network.cut()
            begun = time.monotonic()
            _wait(lambda: any("nothing heard of the daemon for 0.5 s" in x for x in lines("consumer")))
            _wait(lambda: any("not heard for 0.5 s" in x for x in lines("daemon")))
            seen, before = int(told()[-1][0]), given()
            _wait(lambda: time.monotonic() > begun + seconds and given() > before + 20)
            assert int(told()[-1][0]) == seen  # it was cut
            network.mend()
            _wait(lambda: int(told()[-1][0]) > before + 40 and told()[-1][1] == "live")
        finally:
            for process in started:
                process.kill()
                process.wait()
    numbers = [int(seq) for seq, _ in told()]
    assert numbers == list(range(1, len(numbers) + 1))  # none missing, none twice, none out of order
    assert len(numbers) <= given()
    # What was told during the cut comes too late for the gate: it is for the record only.
    assert {kind for seq, kind in told() if seen < int(seq) <= before} == {"replayed"}
    assert not any("Lost" in line or "fatal" in line for line in lines("consumer") + lines("daemon"))


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
