"""What the demo is asked to do, and how far it is: the screen reads it, the story writes it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from edge_ad.capture.parts import part_defect, part_number
from edge_ad.config import EngineKind
from edge_ad.demo.tally import Record, Tally

WIDTH, HEIGHT = 640, 480
RATE = 0.01  # false rejects asked for
DEADLINE_MS = 500.0
# Good parts that are rendered beyond those collected, in seconds: time for a slow machine to begin.
SLACK_S = 6.0


@dataclass(frozen=True)
class Options:
    """What to do: `parts` to inspect once defects may come, `good_parts` to calibrate with, `fps` parts
    per second; `engine`: openvino, or on a GPU tensorrt or torch; `plc`: so many parts through a
    simulated PLC at the end."""

    parts: int = 1500
    good_parts: int = 300
    fps: float = 40.0
    defect_rate: float = 0.08
    seed: int = 1
    backbone: Path | None = None
    keep: Path | None = None
    engine: EngineKind = "openvino"
    plc: int = 0

    @property
    def good_first(self) -> int:
        """The number of the first part that may be defective."""
        return self.good_parts + int(self.fps * SLACK_S)

    @property
    def uri(self) -> str:
        """The rendered camera."""
        return (
            f"synthetic://?seed={self.seed}&width={WIDTH}&height={HEIGHT}&fps={self.fps:g}"
            f"&defect_rate={self.defect_rate:g}&good_first={self.good_first}"
        )

    def truth(self, part: str) -> str:
        """The defect of a part, "" for a good one."""
        return part_defect(self.seed, part_number(part), self.defect_rate, self.good_first)


@dataclass
class Progress:
    """What there is to show at any moment; the screen reads it, the story writes it."""

    options: Options
    tally: Tally
    backbone: str = ""
    started: float = 0.0
    done: list[tuple[str, str]] = field(default_factory=list)  # steps that are finished, in words
    step: str = ""
    text: str = ""
    share: float = 0.0  # of the step at hand
    recent: deque[Record] = field(default_factory=lambda: deque(maxlen=9))
    rejected: Record | None = None  # the last one
    examples: dict[str, Record] = field(default_factory=dict)  # by defect: the clearest reject

    def begin(self, step: str, text: str) -> None:
        """The next step."""
        self.step, self.text, self.share = step, text, 0.0

    def finish(self, text: str) -> None:
        """The step at hand is done."""
        self.done.append((self.step, text))
        self.step = ""
