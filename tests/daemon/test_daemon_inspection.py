"""The inspection loop at its end and at a swap: one verdict for every part, one inspector in use."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from edge_ad.daemon.active import Active
from edge_ad.daemon.inspection import InspectionLoop
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import PartQueue
from edge_ad.daemon.publishing import Outcome
from edge_ad.frame import Frame
from edge_ad.verdict import Decision, Reason, Verdict


class Published(list[Outcome]):
    """A publisher that keeps what it is offered."""

    def offer(self, outcome: Outcome) -> None:
        self.append(outcome)


def make_loop(kind: type[InspectionLoop] = InspectionLoop) -> tuple[Any, PartQueue, Published]:
    parts = PartQueue([Lane(8, False)], 0, False, time.monotonic_ns)
    published = Published()
    loop = kind(
        parts, published, Active(None, "valve", []), "line1", "e1",  # type: ignore[arg-type]
        10**12, time.monotonic_ns, lambda why: None,
    )  # fmt: skip
    return loop, parts, published


def feed(parts: PartQueue, count: int) -> None:
    for i in range(count):
        frame = Frame("top", i, np.zeros((4, 4), np.uint8), time.monotonic_ns(), 0, f"P{i}")
        parts.put(parts.lanes[0], frame, 1)


def test_engine_that_returns_while_its_parts_are_answered_gives_no_second_verdict() -> None:
    loop, parts, published = make_loop()

    class Late:
        """An inspector that is given up just after it returned."""

        def inspect_part(self, images: object) -> Verdict:
            return Verdict(Decision.PASS, Reason.NONE, 1.0, 2.0)

        @property
        def stamps(self) -> list[int]:
            loop.take_over()
            return [0, 0, 0, 0, 0]

    loop.active.inspector = Late()
    feed(parts, 2)
    loop.judge(parts.take(0.0))
    assert [(o.seq, o.part, o.verdict.reason) for o in published] == [
        (1, "P0", Reason.STOPPED),
        (2, "P1", Reason.STOPPED),
    ]


def test_part_that_was_taken_before_the_rest_is_answered_has_its_verdict_too() -> None:
    loop, parts, published = make_loop()
    feed(parts, 2)
    first = parts.take(0.0)
    loop.take_over()
    loop.judge(first)
    assert sorted(o.part for o in published) == ["P0", "P1"]
    assert {o.verdict.reason for o in published} == {Reason.STOPPED}


def test_swap_that_is_taken_in_its_last_moment_is_not_called_refused() -> None:
    class Slow(InspectionLoop):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "active" and hasattr(self, "_offered"):
                time.sleep(0.8)
            super().__setattr__(name, value)

    loop, parts, _ = make_loop(Slow)
    thread = threading.Thread(target=loop.run)
    thread.start()
    new = Active(None, "gasket", [])
    assert loop.swap(new, timeout_s=0.4)
    parts.end(parts.lanes[0])
    thread.join(5)
    assert loop.active is new


def test_swap_that_nobody_takes_is_withdrawn() -> None:
    loop, parts, _ = make_loop()
    old = loop.active
    assert not loop.swap(Active(None, "gasket", []), timeout_s=0.1)
    parts.end(parts.lanes[0])
    loop.run()
    assert loop.active is old
