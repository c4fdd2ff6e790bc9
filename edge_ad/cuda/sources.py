"""The CUDA sources, and the kernels that each of them holds.

Every source is compiled by itself, by nvcc and by NVRTC. The latter has no headers of the host: a source
includes those of its own directory, and CUDA's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Source:
    """A file and its kernels, in the order in which reports list them."""

    path: Path
    kernels: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its binaries are called by."""
        return self.path.stem


SOURCES = (
    Source(
        PACKAGE / "gaussian" / "cuda" / "mahalanobis.cu",
        ("level_distances", "coarse_views", "regressors", "cell_distances"),
    ),
    Source(
        PACKAGE / "preprocess" / "cuda" / "preprocess.cu",
        ("convert_pixels", "straighten", "halve_regions", "resize_tiles"),
    ),
)


def sources_sha256(package: Path = PACKAGE) -> str:
    """sha256 over the names and contents of all of a package's CUDA sources and headers.

    Binaries carry that of what they were compiled from.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*.cu*") if path.suffix in (".cu", ".cuh")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()
