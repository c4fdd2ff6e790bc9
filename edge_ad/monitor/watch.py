"""The monitor beside a running inspection: what it takes from other threads, measures and raises."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from edge_ad.bundle import Bundle
from edge_ad.config import Monitor
from edge_ad.delivery.outcome import Outcome
from edge_ad.frame import Frame
from edge_ad.monitor.cusum import Cusum, limit, slack
from edge_ad.monitor.levels import distance_of, level_means
from edge_ad.monitor.looks import STATISTICS, Looks, Patch, look
from edge_ad.monitor.reference import Reference
from edge_ad.monitor.rejects import Rejects
from edge_ad.verdict import Decision, Reason

SCORE = "", "score"  # camera, statistic
Of = tuple[str, str]

_LOOK_AT = {
    "score": "parts, light, focus: look at 'edge-ad evidence list'",
    "grey": "look at the light, the exposure and the lens",
    "focus": "look at the lens: focus, dirt, vibration",
    "x": "did the camera or the fixture move?",
    "y": "did the camera or the fixture move?",
}
_LOOK_AT_LEVEL = "parts (another batch?), light, focus: compare with the bundle's reference pictures"


class Followed:
    """What one bundle's good parts were like, and how far what comes now has drifted from that."""

    def __init__(
        self,
        settings: Monitor,
        bundle: Bundle | None,
        key: str,
        cameras: Sequence[str],
        patches: Mapping[str, Patch | None] | None = None,
    ) -> None:
        self.judge = ("", "") if bundle is None else (bundle.sha256, key)
        self.pictures: list[tuple[int, str, Patch | None]] = []  # place in a part's frames
        self.problems: list[str] = []
        self.levels: tuple[Of, ...] = ()  # in the order of a verdict's distances
        values: dict[Of, Sequence[float]] = {}
        if bundle is not None and settings.drift_parts:
            section = bundle.section(key)
            if section.good_scores:
                values[SCORE] = section.good_scores
            else:
                self.problems.append("the bundle does not say how its good parts score")
            # None in a bundle of an earlier version: what is followed says so.
            self.levels = tuple(("", distance_of(level)) for level in section.good_distances)
            values |= zip(self.levels, section.good_distances.values(), strict=True)
            for name, rule in bundle.manifest.preprocess.cameras.items():
                if rule.looks is not None:
                    own = {(name, one): getattr(rule.looks, one) for one in STATISTICS}
                    if patches is not None and patches.get(name) != rule.looks.patch:
                        del own[name, "grey"]
                        self.problems.append(
                            f"camera {name!r} has another patch than it was calibrated with"
                        )
                    self.pictures.append((cameras.index(name), name, rule.looks.patch))
                    values |= own
        bound = limit(settings.drift_parts, len(values)) if values else 0.0
        self.references = {of: Reference(good) for of, good in values.items()}
        self.sums = {of: Cusum(slack(one.parts), bound) for of, one in self.references.items()}

    def add(self, of: Of, value: float) -> bool:
        """Take one value; True when an alarm begins or ends with it."""
        return self.sums[of].add(self.references[of].z(value))


class Watch:
    """Watches parts that were judged. `part` is for the publishing thread, `wants` and `take` for the
    inspection thread, `follow` for one thread at a time; a thread of its own measures pictures, one part
    in `sample_ms` at most. What it found is read by any.

    `cameras`: the order of a part's frames; `tell` takes a level and a line, and must not block.
    """

    def __init__(
        self, settings: Monitor, cameras: Sequence[str], tell: Callable[[str, str], None]
    ) -> None:
        self.rejects = Rejects(settings)
        self.pictures: Mapping[Of, float] = {}  # what was measured last, by camera and statistic
        self.failed = 0  # pictures that could not be measured
        self.wants = False  # a part's frames
        self._settings = settings
        self._cameras = tuple(cameras)
        self._tell = tell
        # What is followed, and the alarms of what was before; replaced as one.
        self._state: tuple[Followed, Mapping[Of, int]] = (Followed(settings, None, "", ()), {})
        self._said = [False, False]
        self._taken: tuple[Sequence[Frame | None], Followed] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def close(self) -> None:
        """Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def follow(
        self,
        settings: Monitor,
        patches: Mapping[str, Patch | None],
        bundle: Bundle | None,
        key: str,
    ) -> None:
        """Compare with this bundle's good parts from now on; `key`: of the engine that judges;
        `patches`: of the station file's cameras. What was counted against another's is over; with the
        same bundle and settings everything stays."""
        same = settings == self._settings
        if same and self._followed.judge == (("", "") if bundle is None else (bundle.sha256, key)):
            return
        if not same:
            self._settings, self.rejects = settings, Rejects(settings)
        followed = Followed(settings, bundle, key, self._cameras, patches)
        self._state = followed, dict(self.alarms)
        for problem in followed.problems:
            self._tell(
                "warning", f"monitor: {problem}; 'edge-ad calibrate --refit', till then less is watched"
            )
        self.pictures = {}
        self.wants = bool(self._followed.pictures)

    def part(self, outcome: Outcome) -> None:
        """Count a part that was judged."""
        verdict = outcome.verdict
        if outcome.asked and verdict.reason is not Reason.NOT_KEPT:
            self.rejects.add(verdict.passed)
            self._say_rejects()
        followed = self._followed
        if (outcome.bundle, outcome.engine) != followed.judge or verdict.decision is Decision.FAULT:
            return
        if SCORE in followed.sums and math.isfinite(verdict.score):
            self._add(followed, SCORE, verdict.score)
        if followed.levels and verdict.distances is not None:
            for of, value in zip(followed.levels, level_means(verdict.distances).tolist(), strict=True):
                self._add(followed, of, value)

    def take(self, frames: Sequence[Frame | None], outcome: Outcome) -> None:
        """The frames of a part that was judged, where one is wanted."""
        followed = self._followed
        if (outcome.bundle, outcome.engine) == followed.judge and followed.pictures:
            self._taken = frames, followed
            self.wants = False

    @property
    def _followed(self) -> Followed:
        return self._state[0]

    @property
    def drift(self) -> Mapping[Of, float]:
        """How far each statistic has drifted; 1 is an alarm."""
        return {of: 1.0 if one.alarm else one.ratio for of, one in self._followed.sums.items()}

    @property
    def alarms(self) -> Mapping[Of, int]:
        """How many alarms of each there have been."""
        followed, before = self._state
        found = dict(before)
        for of, one in followed.sums.items():
            found[of] = found.get(of, 0) + one.alarms
        return found

    def _run(self) -> None:
        period_s = self._settings.sample_ms / 1000
        while not self._stop.wait(period_s):
            period_s = self._settings.sample_ms / 1000
            if not self.wants and self._taken is not None:  # `take` is over
                taken, self._taken = self._taken, None
                try:
                    self._measure(*taken)
                except Exception as error:  # noqa: BLE001 - the thread's top: the next may be measured
                    self.failed += 1
                    if self.failed == 1:  # said once, not for every picture
                        self._tell("warning", f"monitor: a picture cannot be measured ({error!r})")
                del taken  # its frames are not held until the next
                self.wants = bool(self._followed.pictures)

    def _measure(self, frames: Sequence[Frame | None], followed: Followed) -> None:
        found: dict[Of, float] = {}
        for place, name, patch in followed.pictures:
            frame = frames[place]
            if frame is not None and frame.image is not None:
                looks: Looks = look(frame.image, patch)
                found |= {(name, one): value for one, value in zip(STATISTICS, looks, strict=True)}
        if followed is not self._followed:
            return
        for of, value in found.items():
            if of in followed.sums:
                self._add(followed, of, value)
        self.pictures = found

    def _add(self, followed: Followed, of: Of, value: float) -> None:
        if not followed.add(of, value):
            return
        one = followed.sums[of]
        camera, statistic = of
        what = f"{statistic} of camera {camera}" if camera else statistic
        if one.alarm:
            way = "higher" if one.higher else "lower"
            self._tell(
                "warning",
                f"drift: {what} is {way} than the calibration's good parts have it (now {value:.4g}); "
                f"the threshold stays. {_LOOK_AT.get(statistic, _LOOK_AT_LEVEL)}",
            )
        else:
            self._tell("info", f"drift: {what} is back where the good parts have it (now {value:.4g})")

    def _say_rejects(self) -> None:
        rejects, settings = self.rejects, self._settings
        for place, alarm, text in zip(
            count(),
            (rejects.row_alarm, rejects.share_alarm),
            (
                f"{settings.rejects_in_row} parts in a row did not pass",
                f"more than {settings.reject_rate:.0%} of the last {settings.reject_window} parts did "
                "not pass",
            ),
        ):
            if alarm and not self._said[place]:
                self._tell("warning", f"rejects: {text}; another product, light or place?")
            self._said[place] = alarm
