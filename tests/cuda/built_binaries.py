"""What the fixture `built` gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_ad.cuda.usage import Usage


@dataclass(frozen=True)
class Built:
    """Both sets of binaries in a directory, and what the kernels use, by compiler."""

    directory: Path
    usage: dict[str, list[Usage]]
