"""Places where tests make the program fail: off unless asked for, and then as asked."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from edge_ad import failpoints
from edge_ad.errors import ConfigError
from edge_ad.failpoints import Failpoints, InjectedError


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    yield
    failpoints.activate(())


def test_off_unless_asked_for() -> None:
    assert failpoints.active is None
    failpoints.activate(["a=raise"])
    assert failpoints.active is not None
    failpoints.activate(())
    assert failpoints.active is None


def test_raise_at_every_hit_at_one_and_nowhere_else() -> None:
    points = Failpoints(["a=raise", "b=raise:5@2"])
    points.hit("elsewhere")
    for _ in range(2):
        with pytest.raises(InjectedError, match="failpoint a"):
            points.hit("a")
    points.hit("b")
    with pytest.raises(OSError, match="Input/output error"):
        points.hit("b")
    points.hit("b")


def test_sleep_takes_its_time() -> None:
    before = time.monotonic()
    Failpoints(["a=sleep:0.05"]).hit("a")
    assert time.monotonic() - before >= 0.05


def test_numbers_are_replaced() -> None:
    points = Failpoints(["a=nan@2", "b=inf"])
    assert points.value("a", 1.5) == 1.5
    assert math.isnan(points.value("a", 1.5))
    assert points.value("b", 1.5) == math.inf
    assert points.value("c", 1.5) == 1.5


def test_a_share_of_the_hits_is_drawn_by_the_seed() -> None:
    def hits(seed: int) -> list[int]:
        points = Failpoints(["a=nan%0.2"], seed)
        return [i for i in range(500) if math.isnan(points.value("a", 0.0))]

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert 50 < len(hits(1)) < 150


@pytest.mark.parametrize(("action", "code"), [("kill@3", -signal.SIGKILL), ("exit:7@3", 7)])
def test_the_process_ends_at_the_place(action: str, code: int) -> None:
    program = (
        "from edge_ad.failpoints import Failpoints\n"
        f"points = Failpoints(['a.b={action}'])\n"
        "for i in range(5): print(i, flush=True); points.hit('a.b')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (code, ["0", "1", "2"])


@pytest.mark.parametrize("spec", ["a", "a=burn", "a=raise@x", "=raise", "a=sleep:1%2"])
def test_what_is_not_understood_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"--failpoint .* is not NAME="):
        Failpoints([spec])
