"""A line's consumers: one subscriber to every score and one scraper, in a process of their own."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from urllib.request import urlopen

import msgspec

from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.scores import ScoreSubscriber
from edge_ad.errors import DeviceError

SCRAPE_PERIOD_S = 1.0


class Taken(msgspec.Struct, frozen=True):
    """What the consumers saw."""

    parts: int = 0
    rejects: int = 0
    scrapes: int = 0
    scrape_ms: float = 0.0  # mean


class Load:
    """The consuming process. Started before the daemon, so that its start-up does not count."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_consume, args=(theirs,), name="load", daemon=True)
        self._process.start()
        theirs.close()

    def connect(self, scores: str, control: str, metrics: str) -> None:
        """Subscribe and begin to scrape; returns once the subscription is proven."""
        self._pipe.send((scores, control, metrics))
        self._receive()

    def finish(self) -> Taken:
        """What was received, after what is on its way has come. Ends the process."""
        self._pipe.send(None)
        taken = self._receive()
        assert isinstance(taken, Taken)
        self._process.join()
        return taken

    def _receive(self) -> object:
        try:
            return self._pipe.recv()
        except EOFError:
            raise DeviceError("the process that consumes scores has died; run the bench again") from None


def _consume(pipe: Connection) -> None:
    with suppress(EOFError):  # the bench has ended early and said why
        _serve(pipe)


def _serve(pipe: Connection) -> None:
    scores, control, metrics = pipe.recv()
    with ScoreSubscriber(scores, ["scores", "rejects"]) as subscriber:
        client = ControlClient(control)
        subscriber.sync(client)
        client.close()
        pipe.send(None)
        counts = {"scores": 0, "rejects": 0}
        seconds: list[float] = []
        next_scrape = time.monotonic()
        while True:
            ended = pipe.poll()
            message = subscriber.receive(1.0 if ended else 0.05)
            if message is not None:
                counts[message[0]] += 1
            elif ended:
                break
            if time.monotonic() >= next_scrape and not ended:
                next_scrape += SCRAPE_PERIOD_S
                seconds.append(_scrape(metrics))
    mean_ms = 1e3 * sum(seconds) / len(seconds) if seconds else 0.0
    pipe.send(Taken(counts["scores"], counts["rejects"], len(seconds), mean_ms))


def _scrape(url: str) -> float:
    start = time.perf_counter()
    try:
        with urlopen(url, timeout=5) as answer:
            answer.read()
    except OSError:
        return 0.0  # the daemon has just ended
    return time.perf_counter() - start
