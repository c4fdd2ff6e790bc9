"""The daemon's end of the process that judges by the candidate."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_ad.shadow.child", str(bundle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
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
        with suppress(subprocess.TimeoutExpired):  # it may hang in a disk
            self._process.wait(5.0)
        for pipe in (self._process.stdin, self._process.stdout, self._log):
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
        with suppress(subprocess.TimeoutExpired, OSError, ValueError):
            code = self._process.wait(0.5)
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
            return f"the shadow's process ended with code {code}{f' ({lines[-1]})' if lines else ''}"
        return "the shadow's process does not answer"
