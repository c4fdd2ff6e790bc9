"""What the daemon answers on its control socket. Everything here runs in the control thread."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_ad import __version__
from edge_ad.daemon.collecting import Collector
from edge_ad.daemon.triggering import ask
from edge_ad.delivery.control import Answer
from edge_ad.errors import DeliveryError

if TYPE_CHECKING:
    from edge_ad.daemon.service import Daemon


class Desk:
    """Answers commands for a daemon: status, product, trigger, collect, collect_cancel, challenge,
    challenge_override, challenge_cancel, reload, sync, snapshot, missed, stop."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __call__(self, command: str, args: dict[str, Any]) -> Answer | Future[Answer]:
        """One request. Raises DeliveryError to refuse it in words."""
        daemon = self._daemon
        if command == "status":
            return self.status()
        if command == "stop":
            daemon.stop()
            return {}
        if daemon.state in ("STARTING", "STOPPING"):
            raise DeliveryError(f"{command}: the daemon is {daemon.state}; ask again later")
        if command == "reload":
            return daemon.reload(str(args.get("who", ""))[:200], str(args.get("reason", ""))[:2000])
        if command == "product":
            return self._product(args)
        if command == "trigger":
            reply = ask(daemon, str(args.get("part", "")), str(args.get("product", "")))
            return {
                "accepted": reply.accepted,
                "reason": reply.reason,
                "text": reply.text,
                "count": reply.count,
            }
        if command == "sync":
            daemon.channels.publisher.sync(str(args.get("token", "")))
            return {}
        if command == "snapshot":
            return {"epoch": daemon.epoch, "messages": daemon.channels.scores.snapshot()}
        if command == "missed":
            return self._missed(args)
        if command == "collect":
            return self._collect(args)
        if command == "challenge":
            return self._challenge(args)
        if command == "challenge_override":
            return self._challenge_override(args)
        if command == "challenge_cancel":
            daemon.beside.challenges.cancel("by command")
            return self._challenge_status()
        if command == "collect_cancel":
            if daemon.loop.collector is not None:
                daemon.loop.collector.cancel()
            return {"collect": self._progress()}
        raise DeliveryError(
            f"unknown command {command!r}; is the client newer than edge_ad {__version__}?"
        )

    def status(self) -> Answer:
        """State, counts, cameras, addresses, and the collection if there is or was one."""
        daemon, channels = self._daemon, self._daemon.channels
        answer: Answer = {
            "state": daemon.state,
            "station": daemon.station.station,
            "product": daemon.station.product,
            "products": list(daemon.station.known_products),
            "epoch": daemon.epoch,
            "pid": os.getpid(),
            "version": __version__,
            "scores": channels.scores.endpoint,
            "stolen": channels.stolen(),
            "metrics": daemon.http.url,
            "cameras": {feed.name: feed.status() for feed in daemon.feeds},
            "trigger": daemon.station.trigger.kind,
            "triggers": None if daemon.triggers is None else dict(daemon.triggers.counts),
        }
        if channels.verdicts is not None:
            answer["verdicts"] = channels.verdicts.status()
        if channels.trigger is not None:
            answer["trigger_endpoint"] = channels.trigger.endpoint
        if daemon.state != "STARTING":
            answer |= {
                "why": daemon.why,
                "evidence_dropped": sum(daemon.evidence.dropped.values()),
                "scores_not_kept": sum(daemon.score_keeper.dropped.values()),
                "product": daemon.loop.active.product,
                "bundle": daemon.loop.active.bundle,
                "engine": daemon.loop.active.engine,
                "shadow": daemon.beside.shadow.candidate if daemon.beside.shadow.up else "",
                "shadow_why": daemon.beside.shadow.why,
                "parts": daemon.loop.seq,
                "rejects": daemon.loop.rejects,
                "missed": daemon.loop.missed,
                "line_stop": daemon.loop.line_stop,
                "progress": daemon.loop.progress,
                "progress_age_s": daemon.loop.progress_age_s(),
                "published": channels.publisher.published,
                "publish_dropped": channels.publisher.dropped,
                "collect": self._progress(),
            }
            answer |= self._challenge_status()
        return answer

    def _challenge(self, args: dict[str, Any]) -> Answer:
        expected = args.get("expected", [])
        if not isinstance(expected, list) or not set(expected) <= {"PASS", "REJECT"}:
            raise DeliveryError(f"challenge: expected is a list of PASS and REJECT, got {expected}")
        collector = self._daemon.loop.collector
        if collector is not None and collector.active:
            raise DeliveryError(
                "challenge: good parts are being collected; 'collect_cancel' ends that first"
            )
        timeout_s = args.get("seconds", 600.0)
        if not isinstance(timeout_s, (int, float)):
            raise DeliveryError(f"challenge: seconds is a number, got {timeout_s!r}")
        who = str(args.get("who", ""))[:200]
        self._daemon.beside.challenges.begin(tuple(expected)[:100], who, float(timeout_s))
        return self._challenge_status()

    def _challenge_override(self, args: dict[str, Any]) -> Future[Answer]:
        seconds = args.get("seconds")
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
            raise DeliveryError(f"challenge_override: needs seconds, got {args}")
        who, reason = str(args.get("who", ""))[:200], str(args.get("reason", ""))[:2000]

        def override() -> Answer:
            self._daemon.beside.challenges.override(float(seconds), who, reason)
            return self._challenge_status()

        return self._daemon.beside.records.submit(override)

    def _challenge_status(self) -> Answer:
        challenges, judge = self._daemon.beside.challenges, self._daemon.loop.active.judge
        last = challenges.last
        return {
            "challenge": None if last is None else last.status(),
            "challenge_due": challenges.due,
            "challenge_blocks": challenges.guards and judge not in challenges.allowed,
            "challenge_override_s": challenges.override_s(),
        }

    def _missed(self, args: dict[str, Any]) -> Answer:
        count, sent = args.get("count"), 2 * self._daemon.channels.publisher.published
        if not isinstance(count, int) or not 0 < count <= sent:
            raise DeliveryError(f"missed: needs a count of 1 to {sent}, got {args}")
        self._daemon.channels.scores.report_missed(count)
        return {}

    def _product(self, args: dict[str, Any]) -> Future[Answer]:
        name = args.get("name")
        if not isinstance(name, str) or not name:
            raise DeliveryError(f"product: needs the name of a product, got {args}")
        collector = self._daemon.loop.collector
        if collector is not None and collector.active:
            raise DeliveryError(
                "product: good parts are being collected; 'collect_cancel' ends that first"
            )
        return self._daemon.change_product(name)

    def _collect(self, args: dict[str, Any]) -> Answer:
        loop = self._daemon.loop
        parts, directory = args.get("parts"), args.get("directory")
        if not isinstance(parts, int) or parts < 1 or not isinstance(directory, str):
            raise DeliveryError(f"collect: needs parts >= 1 and a directory, got {args}")
        if not Path(directory).is_absolute():
            raise DeliveryError(f"collect: directory {directory!r} is relative; give an absolute one")
        if self._daemon.beside.challenges.round is not None:
            raise DeliveryError("collect: a challenge goes on; 'edge-ad challenge --cancel' ends it")
        if loop.collector is not None and not loop.collector.done:
            raise DeliveryError("collect: a collection is running; 'collect_cancel' ends it")
        names = [picture for feed in self._daemon.feeds for picture in feed.pictures]
        loop.collector = Collector(Path(directory), parts, names, self._daemon.clock)
        return {"collect": self._progress()}

    def _progress(self) -> dict[str, object] | None:
        collector = self._daemon.loop.collector
        return None if collector is None else collector.progress()
