"""The features of a calibration on disk: memory then grows neither with the parts nor with the tiles.

1,000 parts of 24 tiles have 1.5 GB of features per position. They are written as they come, all tiles of
a part in succession, and read back one tile at a time, in pieces.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import DeviceError
from edge_ad.gaussian.view import Features

Rows = NDArray[np.int64]


class StoredFeatures:
    """Two files in a directory: pooled features [rows, T, D], and features per position [rows, T, P, d]
    where there are any. A row is a part, or an altered copy of one. Not thread safe.
    """

    def __init__(self, directory: Path) -> None:
        self._pooled = _File(directory / "pooled.f32")
        self._local = _File(directory / "local.f32")
        self.rows = 0

    def append(self, pooled: NDArray[np.float32], local: NDArray[np.float32] | None) -> None:
        """Add a row: pooled [T, D], local [T, P, d]. OSError when the disk is full."""
        self._pooled.append(pooled)
        if local is not None:
            self._local.append(local)
        self.rows += 1

    def tiles(self, rows: Rows) -> list[TileFeatures]:
        """Per tile the features of these rows."""
        tiles = self._pooled.shape[0] if self._pooled.shape else 0
        return [TileFeatures(self._pooled, self._local, tile, rows) for tile in range(tiles)]

    def close(self) -> None:
        """Close the files; whoever owns the directory removes them."""
        self._pooled.close()
        self._local.close()

    def __enter__(self) -> StoredFeatures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


class TileFeatures:
    """Some rows of one tile: nothing is read before it is asked for."""

    def __init__(self, pooled: _File, local: _File, tile: int, rows: Rows) -> None:
        self._pooled, self._local = pooled, local
        self._tile, self._rows = tile, rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: NDArray[Any]) -> TileFeatures:
        """The rows at these places, or where a mask is set."""
        return TileFeatures(self._pooled, self._local, self._tile, self._rows[index])

    def read(self) -> Features:
        """Pooled features in memory, those per position still on disk."""
        pooled = StoredArray(self._pooled, self._tile, self._rows)[:]
        if not self._local.shape:
            return Features(pooled)
        return Features(pooled, StoredArray(self._local, self._tile, self._rows))


class StoredArray:
    """Features [n, ...] of one tile, read like an array: `x[parts]`, and of positions `x[:, positions]`,
    slices with step 1. What is read belongs to the caller."""

    def __init__(self, file: _File, tile: int, rows: Rows) -> None:
        self._file, self._tile, self._rows = file, tile, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self._rows), *self._file.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: slice | tuple[slice, slice]) -> NDArray[np.float32]:
        parts, within = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, _ = within.indices(self._file.shape[1])
        rows = self._rows[parts]
        found = np.empty((len(rows), stop - start, *self._file.shape[2:]), np.float32)
        for row, out in zip(rows.tolist(), found, strict=True):
            self._file.read(row, self._tile, start, out)
        return found

    def take(self, index: NDArray[Any]) -> StoredArray:
        """The parts at these places, or where a mask is set."""
        return StoredArray(self._file, self._tile, self._rows[index])

    def joined(self, other: StoredArray) -> StoredArray:
        """Both, of the same tile, one after the other."""
        return StoredArray(self._file, self._tile, np.concatenate([self._rows, other._rows]))


class _File:
    """Rows of equal arrays [T, ...], float32, one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = ()  # of a row; () before the first
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    def append(self, row: NDArray[np.float32]) -> None:
        if not self.shape:
            self.shape = row.shape
        data = np.ascontiguousarray(row, np.float32).data.cast("B")
        while data:
            data = data[os.write(self._descriptor, data) :]

    def read(self, row: int, tile: int, first: int, out: NDArray[np.float32]) -> None:
        """Fill `out` from place `first` of a row's tile on."""
        each = int(np.prod(self.shape[2:], dtype=np.int64))
        at = ((row * self.shape[0] + tile) * self.shape[1] + first) * each
        data = out.data.cast("B")
        if os.preadv(self._descriptor, [data], 4 * at) != len(data):
            raise DeviceError(f"{self.path}: was cut off while it was read; free space, calibrate again")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def replicate_rows(parts: int, copies: int) -> Rows:
    """Rows of the altered copies where each part is followed by its own: those of part i at i, n + i,
    ... of the result."""
    first = np.arange(parts) * (1 + copies)
    return np.concatenate([first + turn for turn in range(1, copies + 1)] or [first[:0]])


def part_rows(parts: Sequence[int], copies: int) -> Rows:
    """Rows of the parts themselves."""
    return np.asarray(parts, np.int64) * (1 + copies)
