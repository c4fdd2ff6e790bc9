"""What a qualification is asked for, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_ad.bundle.describe import detection_text, percent_down
from edge_ad.bundle.manifest import REPORT
from edge_ad.bundle.qualification import Detection, Measured, Qualification
from edge_ad.qualify.statistics import kinds_below


@dataclass(frozen=True, kw_only=True)
class Request:
    """Folders of known-bad parts and of parts pictured again and again; `bundle` is an id, "" for the
    one in use."""

    bad: Path
    repeat: Path | None = None
    bundle: str = ""


@dataclass(frozen=True)
class Result:
    """What was measured and where it lies. `daemon` is one line on who shows it now."""

    path: Path
    qualification: Qualification
    key: str
    daemon: str
    daemon_took_it: bool

    @property
    def measured(self) -> Measured:
        """Of the engine at hand."""
        return self.qualification.engines[self.key]

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.path / REPORT

    def below(self, min_detection: float) -> list[str]:
        """Kinds of defect whose measured detection rate is less."""
        return kinds_below(self.measured.kinds, min_detection)

    def below_text(self, kinds: Sequence[str], min_detection: float) -> str:
        """Why the gate is shut, in one line."""
        measured = [(kind, self.measured.kinds[kind]) for kind in kinds]
        rates = ", ".join(f"{k} {percent_down(d.rate)} ({d.detected} of {d.parts})" for k, d in measured)
        return (
            f"detected less often than --min-detection {percent_down(min_detection)}: {rates}; "
            f"{self.report} shows the misses"
        )

    def summary(self) -> list[tuple[str, str]]:
        """What a person reads below the tables."""
        detection = detection_text(Detection(self.qualification.engines), self.key)
        return [
            ("bundle", self.qualification.bundle),
            ("escapes", detection),
            ("daemon", self.daemon),
            ("report", str(self.report)),
        ]
