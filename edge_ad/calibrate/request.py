"""What a person asks a calibration for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_ad.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Request:
    """A fresh set (`directory` or `parts` from the line), or a change of the kept one.

    `person` and `reason` go into the kept set's list beside each part added or dropped. `new_reference`:
    cameras that locate choose the part anew that others are laid like.
    """

    directory: Path | None = None
    parts: int = 0
    add: Path | None = None
    drop: tuple[str, ...] = ()
    refit: bool = False
    new_reference: bool = False
    person: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        changes = self.add is not None or bool(self.drop) or self.refit
        ways = [self.directory is not None, bool(self.parts), changes]
        if sum(ways) != 1:
            found = "nothing" if not any(ways) else "more than one"
            raise ConfigError(
                "calibrate: give one of --from DIR, --parts N, --refit, or --add DIR and --drop IDS; "
                f"found {found}"
            )
        if self.parts < 0:
            raise ConfigError(f"--parts: {self.parts} is not a number of parts; give 1 or more")

    @property
    def fresh(self) -> bool:
        """True when the kept set is replaced, not changed."""
        return self.directory is not None or bool(self.parts)
