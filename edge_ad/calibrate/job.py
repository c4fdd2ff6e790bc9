"""What the calibrating process and its child say to each other: one job in, JSON lines out."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Level, Local
from edge_ad.bundle import CameraRule, GoodLooks, Jitter, Section, ViewRule, ZoneRule
from edge_ad.calibration_set import StoredFile
from edge_ad.config import Locate, Roi, Screen, Zone
from edge_ad.engines import EngineChoice
from edge_ad.gaussian.subspace import Reduction


class CameraJob(msgspec.Struct, frozen=True):
    """How a camera's files are read and its parts are found. `rule` is the name of the pixel rule of its
    live frames; `reference` the file of the part that others are laid like, empty: one is to be chosen;
    `asked`: the station file names it."""

    name: str
    pixel_format: str
    bit_depth: int
    rule: str
    frame_size: Literal["fixed", "any"]
    max_pixels: int
    locate: Locate | None = None
    reference: bytes = b""
    asked: bool = False
    patch: Roi | None = None  # see `config.Camera`


class Candidate(msgspec.Struct, frozen=True):
    """A part that was found: a file per camera, its path in bytes, since a file's name need not be text.
    `stored`: already converted, 8-bit grey or BGR; `declared`: see Part."""

    source: str
    files: dict[str, bytes]
    stored: bool = False
    declared: bool = False


class Part(msgspec.Struct, frozen=True):
    """A part of the set, its frames kept. `fresh` parts are not in the list yet. `declared` ones were
    picked by a person from what was rejected: they are fitted, and no random sample of the line."""

    id: str
    source: str
    files: dict[str, StoredFile]
    fresh: bool = False
    declared: bool = False


class Skipped(msgspec.Struct, frozen=True):
    """A part that was left out, and why."""

    source: str
    kind: Literal["unreadable", "duplicate", "size", "damaged", "position"]
    detail: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the child needs. Directories are absolute; `work` is where it leaves its tensors;
    `engines`: the station's, and what it is measured against; `local` is null for profile "paper"; of a
    whole part at most `regressors` are used; `screened` parts were dropped from the kept set by
    screening before."""

    backbone: str
    directory: str
    work: str
    cameras: list[CameraJob]
    views: list[ViewRule]
    zones: list[Zone]
    base: str
    levels: list[Level]
    local: Local | None
    regressors: int
    reduction: Reduction
    rate: float
    threshold: Literal["conformal", "chi2"]
    folds: int
    augment: int
    min_parts: int
    screen: Screen
    screened: int
    engines: list[EngineChoice]
    threads: int
    kept: list[Part]
    candidates: list[Candidate]
    next_number: int

    @property
    def engine(self) -> EngineChoice:
        """The one that is fitted."""
        return self.engines[0]

    @property
    def key(self) -> str:
        """The name of its section in the bundle."""
        return self.engine.key

    def of(self, engine: EngineChoice) -> Job:
        """The same job for one engine."""
        return msgspec.structs.replace(self, engines=[engine])


class Score(msgspec.Struct, frozen=True):
    """A part's out-of-sample score, the view that it comes from, and the place of the tile there."""

    part: Part
    score: float
    view: str
    place: int = 0


class Update(msgspec.Struct, frozen=True, tag="update"):
    """How far a step has come; total 0: unknown."""

    step: str
    done: int
    total: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job cannot be done: the name of the error's class, and its message."""

    kind: str
    message: str


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """The fit. `sections` by engine, the station's first; `reference` maps each engine's key to the
    scores that it gives itself, by part's id; tensors are in work/TENSORS.
    Suspects are scored by a fit without them, and not among `scores` where they were dropped.
    `not_located`: parts that would be FAULT for how they lie; `jitter`: by camera how parts lie; `views`
    with the regions that they have; `looks`: by camera how parts look as a whole."""

    scores: list[Score]
    suspects: list[Score]
    skipped: list[Skipped]
    cameras: dict[str, CameraRule]
    sections: dict[str, Section]
    reference: dict[str, dict[str, float]]
    not_located: list[Part]
    views: list[ViewRule]
    jitter: dict[str, Jitter]
    zones: list[ZoneRule]
    looks: dict[str, GoodLooks]

    @property
    def section(self) -> Section:
        """That of the station's engine."""
        return next(iter(self.sections.values()))


Message = Update | Failed | Outcome


def evenly(parts: int, most: int) -> NDArray[np.int64]:
    """Places of at most so many parts, evenly over all of them."""
    return np.unique(np.linspace(0, parts - 1, min(most, parts)).round().astype(np.int64))
