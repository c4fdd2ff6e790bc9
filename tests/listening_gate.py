"""A consumer of verdicts that acknowledges all that it is told."""

from __future__ import annotations

import threading

import zmq

from edge_ad.delivery.consumer import Delivered, Event, LinkUp, VerdictConsumer

Seen = tuple[str, int, str, str]  # epoch, seq, part, verdict


class Gate:
    """A consumer in a thread that is never killed: what it was told, in its order."""

    def __init__(self, endpoint: str) -> None:
        self.events: list[Event] = []
        self._consumer = VerdictConsumer(endpoint, "gate")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._consumer.socket, zmq.POLLIN)
        while not self._ended.is_set():
            poller.poll(20)
            for event in self._consumer.receive():
                self.events.append(event)
                if isinstance(event, Delivered):
                    self._consumer.ack(event.header.epoch, event.header.seq)

    @property
    def verdicts(self) -> list[Delivered]:
        return [event for event in self.events if isinstance(event, Delivered)]

    @property
    def seen(self) -> list[Seen]:
        return [(e.header.epoch, e.header.seq, e.header.part, e.body.verdict) for e in self.verdicts]

    def links(self) -> int:
        return sum(isinstance(event, LinkUp) for event in self.events)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._consumer.close()
