from __future__ import annotations

import threading

import pytest

from edge_ad.daemon.worker import Worker


def test_one_after_the_other_with_its_outcome() -> None:
    worker, order = Worker("one"), []
    first = worker.submit(order.append, 1)
    failed = worker.submit(int, "x")
    last = worker.submit(lambda: (order.append(2), threading.current_thread().daemon))
    assert first.result(5) is None
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result(5)
    assert last.result(5)[1]  # the process may end without it
    assert order == [1, 2]
    worker.end()


def test_what_has_not_begun_is_cancelled_at_the_end() -> None:
    worker, go, begun = Worker("one"), threading.Event(), threading.Event()
    running = worker.submit(lambda: (begun.set(), go.wait(5)))
    waiting = worker.submit(int)
    begun.wait(5)
    worker.end()
    late = worker.submit(int)
    go.set()
    assert running.result(5) == (None, True)
    assert waiting.cancelled()
    assert late.cancelled()
