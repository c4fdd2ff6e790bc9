"""The daemon's end of the process that judges by the candidate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from edge_ad.errors import DeviceError
from edge_ad.frame import Image
from edge_ad.shadow.child import Pictures, Said


class Child:
    """Owns the process. One thread asks; `close` may be called from any, and ends a waiting `ask`."""

    def __init__(self, bundle: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_ad.shadow.child", str(bundle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ready(self) -> None:
        """Wait until it can judge. Raises DeviceError that says why it cannot."""
        said = self._listen()
        if said.error:
            raise DeviceError(said.error)

    def ask(self, images: Mapping[str, Image]) -> Said:
        """Its verdict on a part's pictures. Raises DeviceError when the process is gone."""
        sink = self._process.stdin
        assert sink is not None
        shapes = {name: list(image.shape) for name, image in images.items()}
        try:
            sink.write(msgspec.json.encode(Pictures(shapes)) + b"\n")
            for image in images.values():
                sink.write(np.ascontiguousarray(image).data)
            sink.flush()
        except (OSError, ValueError) as error:
            raise DeviceError(self._gone()) from error
        return self._listen()

    def close(self) -> None:
        """Idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError, ValueError):
                    pipe.close()

    def _listen(self) -> Said:
        source = self._process.stdout
        assert source is not None
        try:
            line = source.readline()
            return msgspec.json.decode(line, type=Said)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise DeviceError(self._gone()) from error

    def _gone(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f"the shadow's process ended with code {self._process.wait(0.5)}"
        return "the shadow's process does not answer"
