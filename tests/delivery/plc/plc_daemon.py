"""What the bridge talks to, in this process: the real verdict channel, control and product answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client.registry import CollectorRegistry

from edge_ad.delivery.control import ControlServer
from edge_ad.delivery.endpoint import Access
from edge_ad.delivery.guard import Guard
from edge_ad.delivery.outbox import Outbox
from edge_ad.delivery.outcome import Outcome
from edge_ad.delivery.trigger import TriggerReply, TriggerRequest, TriggerServer
from edge_ad.delivery.verdicts import VerdictServer
from edge_ad.errors import DeliveryError
from edge_ad.metrics import Metrics
from edge_ad.verdict import Decision, Reason, Verdict


class Daemon:
    """Judges what is announced as `judge` says: a decision, or None for a part that it forgets. With a
    guard over TCP."""

    def __init__(self, directory: Path, epoch: str = "e1", guard: Guard | None = None) -> None:
        self.directory = directory
        self.product = "plate"
        self.products = ("plate", "bolt")
        self.seq = 0
        self.announced: list[str] = []
        self.given: list[tuple[int, str, str]] = []
        self.judge: Callable[[str], Decision | None] = lambda part: Decision.PASS
        self.refuse = ""
        self._epoch = epoch
        directory.mkdir(exist_ok=True)
        access = Access("", guard)
        tcp = "tcp://127.0.0.1:0" if guard else ""
        outbox = Outbox(
            directory / "outbox.db", epoch, ("plc",), time.monotonic_ns, time.time_ns,
            retention_ns=int(3600e9),
        )  # fmt: skip
        self.server = VerdictServer(
            tcp or f"ipc://{directory}/v", outbox, "line1", epoch, lambda: self.product,
            Metrics(CollectorRegistry(), 500), time.monotonic_ns, lambda *_: None, lambda *_: None,
            100.0, 400.0, access,
        )  # fmt: skip
        self.server.start()
        self.triggers = TriggerServer(tcp or f"ipc://{directory}/t", self._trigger, access)
        self.triggers.start()
        self.control = ControlServer(tcp or f"ipc://{directory}/c", self._command, access)
        self.control.start()

    @property
    def verdicts(self) -> str:
        return self.server.endpoint

    @property
    def control_endpoint(self) -> str:
        return self.control.endpoint

    @property
    def trigger_endpoint(self) -> str:
        return self.triggers.endpoint

    def give(self, part: str, decision: Decision, product: str = "") -> None:
        """A verdict on a part."""
        self.seq += 1
        reason = {Decision.PASS: Reason.NONE, Decision.REJECT: Reason.SCORE}.get(
            decision, Reason.NO_FRAME
        )
        now = time.monotonic_ns()
        self.given.append((self.seq, part, decision.value))
        verdict = Verdict(decision, reason, 1.0, 2.0)
        self.server.offer(
            Outcome(
                self.seq, part, now, time.time_ns(), now, verdict, product or self.product, "sha", 0,
                (0, 0, 0, 0, 0),
            )
        )  # fmt: skip

    def close(self) -> None:
        self.control.close()
        self.triggers.close()
        self.server.close()

    def _trigger(self, request: TriggerRequest) -> TriggerReply:
        self.announced.append(request.part)
        if self.refuse:
            return TriggerReply(False, self.refuse)
        decision = self.judge(request.part)
        if decision is not None:
            self.give(request.part, decision)
        return TriggerReply(True, count=len(self.announced))

    def _command(self, command: str, args: dict[str, Any]) -> dict[str, Any]:
        if command == "product":
            if args["name"] not in self.products:
                raise DeliveryError(f"product {args['name']!r} is not known")
            self.product = args["name"]
        return {"product": self.product}

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
