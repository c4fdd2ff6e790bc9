"""An engine in its own thread: opened, used and closed there, errors and all."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.engine import Head
from edge_ad.backbone.openvino import OpenVinoScorer, open_features, open_scorer
from edge_ad.engines.owner import OwnedFeatures, OwnedScorer, OwnerThread
from edge_ad.errors import ArtifactError, DeviceError

HEADS = [[Head(0, np.zeros(8, np.float32), np.eye(8, dtype=np.float32))]]


def _names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_it_gives_what_the_engine_gives_wherever_it_is_asked(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path)
    used: list[str] = []

    class Engine(OpenVinoScorer):
        def infer(self) -> np.ndarray:  # type: ignore[type-arg]
            used.append(threading.current_thread().name)
            return super().infer()

        def close(self) -> None:
            used.append(threading.current_thread().name)
            super().close()

    def opened() -> OpenVinoScorer:
        used.append(threading.current_thread().name)
        engine = open_scorer(backbone, HEADS)
        engine.__class__ = Engine
        return engine

    plain, owned = open_scorer(backbone, HEADS), OwnedScorer(opened, "gpu")
    plain.input[:] = owned.input[:] = 99
    found: list[np.ndarray] = []  # type: ignore[type-arg]
    thread = threading.Thread(target=lambda: found.append(owned.infer()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], plain.infer())
    np.testing.assert_array_equal(owned.infer(), plain.infer())
    assert owned.cells is None
    assert owned.local is None
    assert owned.identity == plain.identity
    owned.close()
    owned.close()
    assert used == ["gpu"] * 4
    assert "gpu" not in _names()
    with pytest.raises(DeviceError, match="closed"):
        owned.infer()


def test_errors_reach_who_asked_and_leave_it_usable() -> None:
    owner = OwnerThread("gpu")
    with pytest.raises(ZeroDivisionError):
        owner.call(lambda: 1 // 0)
    assert owner.call(lambda: 6 // 2) == 3
    owner.end()
    owner.end()
    with pytest.raises(DeviceError, match="closed"):
        owner.call(lambda: 1)


INTERRUPTED = """
import signal, threading, time
from edge_ad.engines.owner import OwnedScorer, OwnerThread

signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    time.sleep(0.2)  # for the main thread to see it

owner, go_on, closed = OwnerThread("gpu"), threading.Event(), []

def slow():
    interrupt()
    go_on.wait(10)
    return "the first"

class Engine:
    def close(self):
        closed.append(threading.current_thread().name)

def opened():
    interrupt()
    return Engine()

try:
    owner.call(slow)
except KeyboardInterrupt:
    print("interrupted")
threading.Timer(0.05, go_on.set).start()
print(owner.call(lambda: "the second"))
print(owner.call(lambda: "the third"))
owner.end()
try:
    OwnedScorer(opened, "gpu")
except KeyboardInterrupt:
    print("interrupted,", "closed in", *closed)
print("gpu" in [thread.name for thread in threading.enumerate()])
"""


def test_an_interrupted_call_leaves_its_result_to_nobody_and_an_opened_engine_closed() -> None:
    # In a process of its own: what is interrupted must not be what runs the tests.
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "interrupted", "the second", "the third", "interrupted, closed in gpu", "False"
    ]  # fmt: skip


def test_who_calls_while_it_ends_is_answered_or_told() -> None:
    """Whichever comes first: so it is tried often."""
    told: list[str] = []

    def ask(owner: OwnerThread) -> None:
        try:
            told.append(owner.call(lambda: "done"))
        except DeviceError as error:
            told.append(str(error))

    for _ in range(200):
        owner, working = OwnerThread("gpu"), threading.Event()

        def work(working: threading.Event = working) -> None:
            working.set()
            time.sleep(1e-3)

        first = threading.Thread(target=owner.call, args=(work,), daemon=True)
        first.start()
        working.wait(10)
        rest = [threading.Thread(target=ask, args=(owner,), daemon=True) for _ in range(3)]
        rest += [threading.Thread(target=owner.end, daemon=True) for _ in range(2)]
        for thread in rest:
            thread.start()
        for thread in (first, *rest):
            thread.join(10)
            assert not thread.is_alive()
    assert len(told) == 600
    assert all(one == "done" or "the engine is closed" in one for one in told)


def test_nothing_of_a_call_is_kept() -> None:
    class Result:
        pass

    owner = OwnerThread("gpu")
    gc.collect()
    gc.disable()
    try:
        owner.call(Result)
        with pytest.raises(ZeroDivisionError):
            owner.call(lambda: (Result(), 1 // 0))
        owner.call(lambda: None)
        assert not any(type(one) is Result for one in gc.get_objects())
    finally:
        gc.enable()
    owner.end()


def test_an_engine_that_does_not_open_leaves_no_thread(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path)
    backbone.onnx_path.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="cannot read it"):
        OwnedFeatures(lambda: open_features(backbone), "gpu")
    assert "gpu" not in _names()
