"""The verdict channel's side of the daemon: keeps every verdict, then tells everyone who consumes them.

One thread owns outbox and socket: a verdict is committed, then sent. Nothing here holds up inspection.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec
import zmq

from edge_ad.delivery import channel, wire
from edge_ad.delivery.channel import Welcome
from edge_ad.delivery.endpoint import ANYBODY_HERE, Access, bind
from edge_ad.delivery.outbox import PRUNE_ROWS, Kept, Outbox, Record
from edge_ad.delivery.outbox_file import OutboxError, OutboxFull
from edge_ad.delivery.outcome import Outcome, messages
from edge_ad.delivery.sessions import Sessions
from edge_ad.errors import EdgeAdError
from edge_ad.metrics import Metrics

BACKLOG = 10_000  # verdicts that may wait for the disk; beyond, they are dropped and consumers told
COMMIT_SHARE = 0.2  # of the deadline, that the commit of a REJECT may take
_BATCH = 256  # verdicts in one commit
_MESSAGES = 64  # of consumers, between two looks for verdicts
_QUEUED = 2 * channel.MOST_CREDIT  # messages to one consumer in ZeroMQ
_TICK_S = 1.0
_AGAIN_S = 0.5  # until room on a full disk is looked for again
_NS = 1e-9


class VerdictServer:
    """Owns the outbox from here on. `offer` is for the inspection thread and never blocks; `status` and
    what is counted may be read by any thread. `full` says why the disk has no room for verdicts at the
    moment, else it is empty: those that were offered wait, and are told as late once there is room.
    `fatal` is called once where none can be kept any more; what was offered since is told to nobody.

    Raises DeliveryError or ConfigError where the endpoint cannot be opened; the outbox is the caller's
    then.
    """

    def __init__(
        self,
        endpoint: str,
        outbox: Outbox,
        station: str,
        epoch: str,
        product: Callable[[], str],
        metrics: Metrics,
        clock: Callable[[], int],
        tell: Callable[[str, str], None],
        fatal: Callable[[str], None],
        heartbeat_ms: float = 500.0,
        lost_ms: float = 1500.0,
        access: Access = ANYBODY_HERE,
    ) -> None:
        self.outbox = outbox
        self._overflow = self._untold = 0  # each of the two is counted by one thread
        self.oldest_s = dict.fromkeys(outbox.consumers, 0.0)
        self.failed = self.full = ""
        self._station, self._epoch = station, epoch
        self._heartbeat_ms = heartbeat_ms
        self._metrics = metrics
        self._clock = clock
        self._tell = tell
        self._fatal = fatal
        self._told_evicted = self._told_dropped = self._stopping = self._closing = False
        self._held: list[Outcome] = []  # for which there was no room
        self._again_ns = 0
        # ROUTER, its own context: what it holds is given up with it.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1), (zmq.SNDHWM, _QUEUED), (zmq.RCVHWM, 256), (zmq.LINGER, 500),
            (zmq.MAXMSGSIZE, channel.LARGEST),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)
        try:
            self.endpoint = bind(self._socket, endpoint, "verdicts.endpoint", access)
        except EdgeAdError:
            self._close_socket(0)
            raise
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.sessions = Sessions(
            self._socket, outbox,
            lambda: Welcome(channel.VERSION, station, product(), epoch, 0, "", heartbeat_ms, lost_ms),
            int(lost_ms * 1e6), clock, tell,
        )  # fmt: skip
        self._queue: SimpleQueue[Outcome | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="verdicts", daemon=True)

    @property
    def dropped(self) -> int:
        """Verdicts that found the backlog full, or were not to be encoded."""
        return self._overflow + self._untold

    @property
    def waiting(self) -> int:
        """Verdicts that wait for the disk: many, where it hangs or is full. Any thread."""
        return self._queue.qsize() + len(self._held)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, outcome: Outcome) -> None:
        """Hand over a judged part. Never blocks."""
        if self._queue.qsize() >= BACKLOG:
            self._overflow += 1
            return
        self._queue.put(outcome)
        os.eventfd_write(self._wake, 1)

    def close(self, timeout_s: float = 5.0) -> None:
        """Keep what was offered, send what consumers have credit for, close outbox and socket.
        Idempotent; to be called when nothing is offered any more. `failed` says where it took longer."""
        if self._wake < 0:
            return
        self._closing = True
        self._queue.put(None)
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is None:
            self.outbox.close()
            self._close_socket(0)
        else:
            self._thread.join(timeout_s)
            if self._thread.is_alive():  # stuck in a write; what it holds goes with the process
                left = self._queue.qsize()
                self.failed = f"outbox: {left} verdicts not kept within {timeout_s:g} s; check its disk"
                return
        os.close(self._wake)
        self._wake = -1

    def status(self) -> dict[str, object]:
        """Of every consumer whether it is there, and what waits for it."""
        consumers = {
            name: {
                "state": "up" if self.sessions.is_up(name) else "down",
                "depth": self.outbox.depth(name),
                "oldest_s": round(self.oldest_s[name], 3),
                "acked": self.sessions.counts[name].acked,
            }
            for name in self.outbox.consumers
        }
        return {
            "endpoint": self.endpoint,
            "depth": max((self.outbox.depth(name) for name in self.outbox.consumers), default=0),
            "waiting": self.waiting,
            "consumers": consumers,
        }

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        tick_ns = self._clock()
        try:
            while not self._stopping or not self._queue.empty():
                idle = self._keep_waiting()
                more = self.sessions.receive(_MESSAGES)
                more |= self.sessions.catch_up()
                self.sessions.drop_silent()
                if self._clock() >= tick_ns:
                    tick_ns = self._tick()
                if idle and not more:
                    until_ns = min(tick_ns, self._again_ns) if self._held else tick_ns
                    left_ms = (until_ns - self._clock()) / 1e6
                    poller.poll(max(1, int(min(left_ms, self._heartbeat_ms))))
            self._end()
        except OutboxError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - the thread's top: nothing would be kept any more
            self._fail(f"the verdict thread died: {error!r}")
        finally:
            self.outbox.close()
            self._close_socket(None)

    def _keep_waiting(self) -> bool:
        """Keep and tell what waits, up to a batch; whether there is nothing more to be done at once."""
        with suppress(BlockingIOError):  # nothing new was offered; a batch may be left
            os.eventfd_read(self._wake)
        if self._held and not self._closing and self._clock() < self._again_ns:
            return True
        batch = self._held or self._drain()
        if batch:
            self._keep(batch)
        return not self._stopping and (bool(self._held) or self._queue.empty())

    def _drain(self) -> list[Outcome]:
        batch: list[Outcome] = []
        while len(batch) < _BATCH:
            try:
                outcome = self._queue.get_nowait()
            except Empty:
                break
            if outcome is None:
                self._stopping = True
            else:
                batch.append(outcome)
        return batch

    def _keep(self, batch: list[Outcome]) -> None:
        """Commit, then send."""
        pairs = [(one, record) for one in batch if (record := self._record(one)) is not None]
        if not pairs:
            return
        records = [record for _, record in pairs]
        start_ns = self._clock()
        try:
            durability = self.outbox.add(records)
        except OutboxError as error:
            self._held = [outcome for outcome, _ in pairs]
            if self._closing or not isinstance(error, OutboxFull):
                raise
            self._wait_for_room(str(error))
            return
        self._held = []
        kept_ns = self._clock()
        epoch, name = self.outbox.epoch_id, self._epoch
        kept = [Kept((epoch, r.seq), name, r.header, r.body) for r in records]
        if not self.full:
            self.sessions.live(kept)
        else:
            self.sessions.later(kept)
            if self._queue.empty():  # all that waited is kept
                self.full = ""
                self._tell("info", "outbox: its disk has room again, verdicts are kept")
        self._metrics.commit(durability, (kept_ns - start_ns) * _NS)
        for outcome, _ in pairs:
            self._metrics.kept(outcome.verdict.decision, (kept_ns - outcome.t_verdict_ns) * _NS)

    def _wait_for_room(self, why: str) -> None:
        """Nobody is told what is not kept, and nothing passes until it can be."""
        if not self.full:
            self._tell("error", f"{why}; until then nothing passes, FAULT not_kept")
        self.full = why
        self._again_ns = self._clock() + int(_AGAIN_S * 1e9)

    def _record(self, outcome: Outcome) -> Record | None:
        try:
            header, body = messages(outcome, self._station, self._epoch)
            about, said = wire.encode(header), wire.encode(body)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            self._untold += 1
            self._tell("error", f"verdict {outcome.seq} cannot be told ({error!r}); please report this")
            return None
        decision = outcome.verdict.decision.value
        return Record(outcome.seq, outcome.part, decision, about, said, outcome.t_wall_ns)

    def _tick(self) -> int:
        """Once a second; returns when the next one is due."""
        again = self._tidy() >= PRUNE_ROWS
        self.outbox.checkpoint_if_quiet()
        for name in self.outbox.consumers:
            self.oldest_s[name] = self.outbox.oldest_s(name)
        if self.outbox.evicted_unfetched and not self._told_evicted:
            self._told_evicted = True
            self._tell(
                "warning",
                "outbox: verdicts.max_megabytes is reached; the oldest verdicts go although not "
                "every consumer has them. Start the consumer, or take it out of verdicts.consumers",
            )
        if self._overflow and not self._told_dropped:
            self._told_dropped = True
            self._tell(
                "error", "outbox: verdicts were dropped, the disk is full or slower than the line"
            )
        return self._clock() + (0 if again else int(_TICK_S * 1e9))

    def _end(self) -> None:
        """Everything is kept; consumers get what they have credit for."""
        while self.sessions.catch_up():
            pass
        self.sessions.close("the daemon stops")
        self._tidy()

    def _tidy(self) -> int:
        with suppress(OutboxFull):  # what is to be written down is so by the next one
            return self.outbox.tidy()
        return 0

    def _fail(self, why: str) -> None:
        left = self._held
        while rest := self._drain():
            left = left + rest
        self._untold += len(left)
        if left:
            why += f"; {len(left)} verdicts that waited are dropped"
        self.failed = why
        self._fatal(why)

    def _close_socket(self, linger_ms: int | None) -> None:
        self._socket.close(linger=linger_ms)
        self._context.term()


def open_outbox(
    path: Path,
    epoch: str,
    consumers: tuple[str, ...],
    clock: Callable[[], int],
    wall: Callable[[], int],
    retention_hours: float,
    max_megabytes: float,
    deadline_ms: float,
    tell: Callable[[str, str], None],
) -> Outbox:
    """The outbox of a start, and told what was found: damage, and commits that are too slow for the
    deadline. Raises OutboxError."""
    outbox = Outbox(
        path, epoch, consumers, clock, wall, int(retention_hours * 3.6e12), int(max_megabytes * 1e6)
    )
    if outbox.quarantined:
        tell("warning", outbox.quarantined)
    slow = slowness(outbox.times.full_worst, deadline_ms)
    tell("warning" if slow else "info", f"outbox: {outbox.times.text()}{slow}")
    return outbox


def slowness(commit_s: float, deadline_ms: float) -> str:
    """What is to be done about a slow commit; empty where it is quick enough."""
    if commit_s * 1e3 <= COMMIT_SHARE * deadline_ms:
        return ""
    return (
        f", more than {100 * COMMIT_SHARE:g} % of deadline_ms = {deadline_ms:g}; put state_dir on a "
        "faster disk (an SSD with power-loss protection), or allow more time from trigger to gate"
    )
