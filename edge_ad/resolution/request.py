"""What a person asks for: which defects, of which sizes, how often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edge_ad.capture.insertion import KINDS
from edge_ad.errors import ConfigError

SIZES = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
TRIALS = 60  # all of them found: at least 95 % with 95 % confidence, which 58 of 58 are not
CONTRAST = 0.3  # plain to see where it is large enough


@dataclass(frozen=True, kw_only=True)
class Request:
    """Good parts, and the defects to put into them. Raises ConfigError for what cannot be measured.

    sizes: camera pixels, increasing; none: those of SIZES that fit. contrast: share of the view's white
    (`insertion.white`) that a defect is darker or brighter. bundle: an id, "" for the one in use.
    pictures: where an example of each defect is written.
    """

    good: Path
    sizes: tuple[float, ...] = ()
    kinds: tuple[str, ...] = KINDS
    trials: int = TRIALS
    contrast: float = CONTRAST
    seed: int = 0
    bundle: str = ""
    pictures: Path | None = None

    def __post_init__(self) -> None:
        for size in self.sizes:
            if not (math.isfinite(size) and size >= 1):
                raise ConfigError(
                    f"--sizes: {size:g} is no size of a defect; give 1 camera pixel or more"
                )
        for smaller, larger in zip(self.sizes, self.sizes[1:], strict=False):
            if not smaller < larger:
                raise ConfigError(
                    f"--sizes: {larger:g} comes after {smaller:g}; give each size once, smallest first"
                )
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            found = repr(unknown[0]) if unknown else "nothing"
            raise ConfigError(f"--kinds: {found} is no kind of defect; give some of {','.join(KINDS)}")
        if self.trials < 1:
            raise ConfigError(f"--trials: {self.trials} is no number of trials; give 1 or more")
        if not 0 < self.contrast <= 1:
            raise ConfigError(f"--contrast: {self.contrast:g} is not over 0 and up to 1")
        if self.seed < 0:
            raise ConfigError(f"--seed: {self.seed} is negative; give 0 or more")


def parse_sizes(text: str) -> tuple[float, ...]:
    """Numbers between commas. Raises ConfigError that names what is none."""
    sizes = []
    for word in text.split(","):
        try:
            sizes.append(float(word))
        except ValueError:
            raise ConfigError(
                f"--sizes: {word.strip()!r} is no number; give camera pixels between commas, as 2,4,8"
            ) from None
    return tuple(sizes)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",")))
