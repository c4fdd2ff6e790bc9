"""The inspector alone, in a process that has nothing else, as the daemon has its own."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import cv2

from edge_ad.bench.trial import pool_images
from edge_ad.bundle import open_bundle
from edge_ad.config import Station
from edge_ad.daemon import process
from edge_ad.engines import EngineChoice
from edge_ad.errors import DeviceError
from edge_ad.inspector import open_inspector


class InspectorAlone:
    """Judges pictures of the station's camera by its active bundle, in a process of its own. `rejected`:
    those that do not pass. Raises DeviceError when that process ends."""

    def __init__(self, station: Station, pool: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, station, pool), name="inspector", daemon=True
        )
        self._process.start()
        theirs.close()
        self.rejected: list[int] = list(self._receive())

    def inspect(self, picture: int) -> int:
        """How long one inspection takes, ns."""
        self._pipe.send(picture)
        return int(self._receive())

    def close(self) -> None:
        """End the process. Idempotent."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join()
        self._pipe.close()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise DeviceError("the process of the inspector has died; run the bench again") from None


def _serve(pipe: Connection, station: Station, pool: int) -> None:
    bundle = open_bundle(station.state_path / "bundles" / station.product / "current")
    inspector = open_inspector(bundle, EngineChoice(threads=station.engine.threads))
    images, _ = pool_images(station, pool)
    cv2.setNumThreads(1)
    process.settle()
    pipe.send([n for n, image in enumerate(images) if not inspector.inspect(image).passed])
    with suppress(EOFError):  # the bench has ended early and said why
        while (picture := pipe.recv()) is not None:
            start = time.monotonic_ns()
            inspector.inspect(images[picture])
            pipe.send(time.monotonic_ns() - start)
    inspector.close()
