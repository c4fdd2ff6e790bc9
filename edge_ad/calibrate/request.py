"""What a person asks a calibration for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_ad.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Request:
    """A fresh set (`directory` or `parts` from the line), or a change of the kept one.

    `from_evidence`: ids of parts that the daemon did not pass and `person` declares good. `person` and
    `reason` go into the kept set's list beside each part added or dropped. `new_reference`: cameras that
    locate choose the part anew that others are laid like. `shadow`: the bundle judges beside the one in
    use, which stays.
    """

    directory: Path | None = None
    parts: int = 0
    add: Path | None = None
    drop: tuple[str, ...] = ()
    from_evidence: tuple[str, ...] = ()
    refit: bool = False
    new_reference: bool = False
    shadow: bool = False
    person: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        changes = self.add is not None or bool(self.drop or self.from_evidence) or self.refit
        ways = [self.directory is not None, bool(self.parts), changes]
        if sum(ways) != 1:
            found = "nothing" if not any(ways) else "more than one"
            raise ConfigError(
                "calibrate: give one of --from DIR, --parts N, --refit, or --add DIR (or "
                f"--from-evidence IDS) and --drop IDS; found {found}"
            )
        if self.from_evidence and self.add is not None:
            raise ConfigError(
                "calibrate: --from-evidence adds parts that a person picked, --add a random sample; "
                "give one of them at a time"
            )
        if self.from_evidence and not self.reason.strip():
            raise ConfigError(
                "--from-evidence: who declared rejected parts good, and why, is kept with them; give "
                "--reason TEXT"
            )
        if self.parts < 0:
            raise ConfigError(f"--parts: {self.parts} is not a number of parts; give 1 or more")

    @property
    def fresh(self) -> bool:
        """True when the kept set is replaced, not changed."""
        return self.directory is not None or bool(self.parts)
