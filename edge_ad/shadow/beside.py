"""What the daemon's threads see of a candidate that judges beside the bundle in use."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_ad.aside import Aside
from edge_ad.delivery.outcome import Outcome
from edge_ad.errors import DeviceError, EdgeAdError
from edge_ad.frame import Frame, Image
from edge_ad.shadow.log import Pair, append, log_path
from edge_ad.shadow.said import Said
from edge_ad.verdict import Decision

RESULTS = ("agree", "would_reject", "would_pass", "fault", "error")


class Shadow:
    """`wants` and `take` are for the inspection thread: a part at a time, the next one when the
    candidate has judged the last. `follow` and `close` are for one thread at a time. `cameras`: the
    order of a part's frames. `counts`: parts by what became of them."""

    def __init__(
        self, state: Path, cameras: Sequence[str], epoch: str, tell: Callable[[str, str], None]
    ) -> None:
        self.wants = False
        self.counts = dict.fromkeys(RESULTS, 0)
        self._state = state
        self._cameras = tuple(cameras)
        self._epoch = epoch
        self._tell = tell
        self.why = ""  # a candidate does not judge
        self._closed = False
        self._running: _Running | None = None

    @property
    def candidate(self) -> str:
        """Its id, empty without one."""
        running = self._running
        return "" if running is None else running.bundle.name

    @property
    def up(self) -> bool:
        """Whether a candidate judges."""
        return self._running is not None and self._running.up

    def refuse(self, why: str) -> None:
        """No candidate judges, and why."""
        self.follow("", ("", ""), None)
        self.why = why
        self._tell("error", f"shadow: {why}")

    def follow(self, product: str, in_use: tuple[str, str], candidate: Path | None) -> None:
        """Have this bundle judge parts of a product beside the one in use (its sha256, and the engine);
        None: none does. Raises OSError and RuntimeError where no process or thread is to be had."""
        running = self._running
        wanted = None if candidate is None or not in_use[0] or self._closed else (candidate, in_use)
        if running is not None:
            if running.up and wanted == (running.bundle, running.in_use):
                return
            self.wants, self._running = False, None
            running.close()
        self.why = ""
        if wanted is not None:
            self._running = _Running(self, product, *wanted)

    def take(self, frames: Sequence[Frame | None], outcome: Outcome) -> None:
        """A part that was judged, where one is wanted."""
        running = self._running
        if running is not None and (outcome.bundle, outcome.engine) == running.in_use:
            if outcome.verdict.decision is Decision.FAULT:
                return
            self.wants = False
            running.give(frames, outcome)

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        self.follow("", ("", ""), None)


class _Running:
    """One candidate, its process and the thread that speaks with it."""

    def __init__(self, shadow: Shadow, product: str, bundle: Path, in_use: tuple[str, str]) -> None:
        self.bundle, self.in_use = bundle, in_use
        self.up = False
        self._shadow = shadow
        self._log = log_path(shadow._state, product, bundle.name)
        self._full = False
        self._given: tuple[Sequence[Frame | None], Outcome] | None = None
        self._came = threading.Event()
        self._stop = False
        self._child = _start(bundle)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._child.close()
            raise

    def give(self, frames: Sequence[Frame | None], outcome: Outcome) -> None:
        self._given = frames, outcome
        self._came.set()

    def close(self) -> None:
        self._stop, self.up = True, False
        self._came.set()
        self._child.kill()
        self._thread.join(2.0)

    def _run(self) -> None:
        tell, name = self._shadow._tell, self.bundle.name
        try:
            said = self._child.hear()
            if said.error:
                raise DeviceError(said.error)
            tell("info", f"shadow: {name} judges beside the bundle in use")
            self.up = True
            while not self._stop:
                self._shadow.wants = True
                self._came.wait()
                self._came.clear()
                given, self._given = self._given, None
                if given is not None and not self._stop:
                    self._compare(*given)
                given = None  # its frames are not held until the next
        except EdgeAdError as error:
            if not self._stop:
                self._shadow.why = f"{name} does not judge: {error}"
                tell("error", f"shadow: {self._shadow.why}; 'edge-ad reload' tries again")
        finally:
            self.up = False
            self._child.close()
            if self._shadow._running is self:
                self._shadow.wants = False

    def _compare(self, frames: Sequence[Frame | None], outcome: Outcome) -> None:
        images = {
            name: frame.image
            for name, frame in zip(self._shadow._cameras, frames, strict=True)
            if frame is not None and frame.image is not None
        }
        said = self._child.ask(images)
        self._shadow.counts[_result(outcome, said)] += 1
        verdict = outcome.verdict
        pair = Pair(
            outcome.part, self._shadow._epoch, outcome.seq, outcome.t_wall_ns, outcome.bundle,
            outcome.engine,
            verdict.decision.value, verdict.reason.value, _ratio(verdict.score, verdict.threshold),
            said.verdict or "FAULT", said.reason or said.error[:200] * (not said.verdict),
            _ratio(said.score, said.threshold),
        )  # fmt: skip
        try:
            append(self._log, pair)
        except OSError as error:
            if not self._full:  # said once, not for every part
                self._shadow._tell("warning", f"shadow: {self._log}: {error.strerror}; free some space")
            self._full = True
        else:
            self._full = False


def _start(bundle: Path) -> Aside[dict[str, Image], Said]:
    return Aside("the shadow's process", Said, "edge_ad.shadow.child", str(bundle))


def _result(outcome: Outcome, said: Said) -> str:
    if not said.verdict:
        return "error"
    if said.verdict == outcome.verdict.decision.value:
        return "agree"
    return {"PASS": "would_pass", "REJECT": "would_reject"}.get(said.verdict, "fault")


def _ratio(score: float | None, threshold: float | None) -> float | None:
    if score is None or not threshold:
        return None
    ratio = score / threshold
    return ratio if math.isfinite(ratio) else None
