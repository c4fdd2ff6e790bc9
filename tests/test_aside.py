"""A process of its own that gives way: what is said arrives whole, and who asks never waits for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from aside_echo import Asked, Said

from edge_ad.aside import Aside, ProcessGone, ProcessSilent
from edge_ad.errors import DeviceError

PATIENCE_S = 120.0  # it computes only while nothing else wants to
QUICK = "10"  # a nice value instead


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the modules of the tests."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)


@contextmanager
def aside(*words: str) -> Iterator[Aside[Asked, Said]]:
    with closing(Aside("the echo", Said, "aside_echo", *words)) as one:
        yield one


def arrays(**shapes: tuple[int, ...]) -> Asked:
    made = np.random.default_rng(1)
    return {name: made.random(shape, dtype=np.float32) for name, shape in shapes.items()}


def test_arrays_go_and_come_whole_whatever_their_size_and_order() -> None:
    asked = arrays(large=(1000, 1000, 3), none=(0, 4), scalar=())
    asked["turned"] = arrays(one=(40, 30, 2))["one"].T[:, ::-1]
    before = {name: array.copy() for name, array in asked.items()}
    with aside(QUICK) as one:
        for _ in range(2):
            _, said = one.ask(asked, PATIENCE_S)
            assert list(said) == sorted(asked)
            for name, array in said.items():
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array, before[name] + 1)
                np.testing.assert_array_equal(asked[name], before[name])


@pytest.mark.parametrize(
    ("words", "policy", "nice"), [((), os.SCHED_IDLE, 19), ((QUICK,), os.SCHED_OTHER, 10)]
)
def test_it_gives_way_and_goes_first_when_memory_is_short(
    words: tuple[str, ...], policy: int, nice: int
) -> None:
    with aside(*words) as one:
        assert one.ask({}, PATIENCE_S)[0] == f"{policy} {nice} 1000"


def test_the_end_of_it_is_told_with_its_reason() -> None:
    with aside(QUICK) as one:
        with pytest.raises(
            DeviceError, match=r"the echo ended with code 1 \(RuntimeError: it was to fail"
        ):
            one.ask(arrays(fail=(1,)), PATIENCE_S)
        with pytest.raises(ProcessGone, match="the echo ended with code 1"):
            one.ask(arrays(large=(1000, 1000)), PATIENCE_S)


def test_what_is_not_an_answer_is_an_end() -> None:
    wrong = Aside("the echo", int, "aside_echo", QUICK)
    with closing(wrong) as one, pytest.raises(ProcessGone, match="the echo is gone"):
        one.ask({}, PATIENCE_S)


def test_one_that_does_not_answer_is_waited_for_no_longer_than_asked() -> None:
    with aside(QUICK) as one:
        one.ask({}, PATIENCE_S)
        began = time.monotonic()
        with pytest.raises(ProcessSilent, match="the echo does not answer"):
            one.ask({"sleep": np.full(1, 60, np.float32)}, 0.3)
        assert 0.3 <= time.monotonic() - began < 30


def test_one_that_does_not_listen_is_waited_for_no_longer_than_asked() -> None:
    with aside(QUICK) as one:
        one.ask({}, PATIENCE_S)
        psutil.Process(one.pid).suspend()
        with pytest.raises(ProcessSilent, match="the echo does not answer"):
            one.ask(arrays(large=(4000, 1000)), 0.3)


def test_killing_it_ends_the_waiting() -> None:
    failures: list[Exception] = []
    with aside(QUICK) as one:
        one.ask({}, PATIENCE_S)

        def ask() -> None:
            try:
                one.ask({"sleep": np.full(1, 600, np.float32)})
            except DeviceError as error:
                failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive()
        one.kill()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert str(failures[0]).startswith("the echo is gone")
    one.close()
    one.kill()


def test_killing_it_ends_the_waiting_of_who_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with aside(QUICK) as one:
        one.ask({}, PATIENCE_S)
        psutil.Process(one.pid).suspend()
        monkeypatch.setattr(one._process, "kill", lambda: None)  # it hangs in a disk
        timer = threading.Timer(0.3, one.kill)
        timer.start()
        with pytest.raises(ProcessGone, match=r"the echo is gone \(no longer of use\)"):
            one.ask(arrays(large=(4000, 1000)))
        timer.join()
        began = time.monotonic()
        one.close()
        assert time.monotonic() - began < 1
        with pytest.raises(ProcessGone):  # and touches no descriptor, which may be another's by now
            one.ask({})
        monkeypatch.undo()
        psutil.Process(one.pid).kill()


def test_it_ends_with_who_asks_and_not_with_a_key_press() -> None:
    with aside(QUICK) as one:
        one.ask({}, PATIENCE_S)
        process = psutil.Process(one.pid)
        process.send_signal(signal.SIGINT)
        assert one.ask(arrays(one=(3,)), PATIENCE_S)[1]["one"].shape == (3,)
        one._pipes[1].close()
        assert process.wait(PATIENCE_S) == 0


def test_without_a_directory_for_what_it_says_of_itself_it_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_ad.aside.tempfile.TemporaryFile", Path("/no/such").touch)
    with aside(QUICK) as one:
        assert one.ask({}, PATIENCE_S)[1] == {}
        with pytest.raises(DeviceError, match=r"^the echo ended with code 1$"):
            one.ask(arrays(fail=(1,)), PATIENCE_S)


def test_what_cannot_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_ad.aside.sys.executable", "/no/such/python")
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        Aside("the echo", Said, "aside_echo")
    assert psutil.Process().num_fds() == before
