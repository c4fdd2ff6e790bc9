"""The process that judges by the candidate: pictures on standard input, verdicts on standard output.

    python -m edge_ad.shadow.child BUNDLE

A request is a line of JSON, `Pictures`, and the pictures' bytes behind it; an answer is a line of JSON,
`Said`. It ends when its input does.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

NICE = 19


def _give_way() -> None:
    """Before anything large is imported, which would take time from parts; and who is to go when memory
    is short."""
    with suppress(AttributeError, OSError):  # not every system has it, or allows it
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _give_way()

import cv2  # noqa: E402
import msgspec  # noqa: E402
import numpy as np  # noqa: E402

from edge_ad.bundle import open_bundle  # noqa: E402
from edge_ad.engines import EngineChoice  # noqa: E402
from edge_ad.errors import EdgeAdError  # noqa: E402
from edge_ad.frame import Image  # noqa: E402
from edge_ad.inspector import Inspector, open_inspector  # noqa: E402

CPU = EngineChoice(threads=1)


class Pictures(msgspec.Struct, frozen=True):
    """The shapes of a part's pictures, uint8, by camera."""

    shapes: dict[str, list[int]]


class Said(msgspec.Struct, frozen=True):
    """The verdict; `error`: why there is none. Of the first answer, which comes when it is ready, only
    that counts."""

    verdict: str = ""
    reason: str = ""
    score: float | None = None
    threshold: float | None = None
    error: str = ""


def main() -> int:
    """Serve until the input ends."""
    cv2.setNumThreads(1)
    try:
        inspector = open_inspector(open_bundle(Path(sys.argv[1])), CPU)
        inspector.warm_up(rounds=1)
    except EdgeAdError as error:
        _say(Said(error=str(error)))
        return error.exit_code
    _say(Said())
    source = sys.stdin.buffer
    while line := source.readline():
        _say(_judge(inspector, msgspec.json.decode(line, type=Pictures), source))
    inspector.close()
    return 0


def _judge(inspector: Inspector, pictures: Pictures, source: BinaryIO) -> Said:
    images = {name: _read(source, shape) for name, shape in pictures.shapes.items()}
    try:
        verdict = inspector.inspect_part([images[name] for name in inspector.cameras])
    except EdgeAdError as error:
        return Said(error=str(error))
    return Said(verdict.decision.value, verdict.reason.value, verdict.score, verdict.threshold)


def _read(source: BinaryIO, shape: list[int]) -> Image:
    image = np.empty(shape, np.uint8)
    view = image.reshape(-1).data
    while view:
        got = source.readinto(view)  # type: ignore[attr-defined]
        if not got:
            raise EOFError("the daemon is gone")
        view = view[got:]
    return image


def _say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BrokenPipeError, EOFError):
        os._exit(1)  # nobody listens; an orderly exit would only fail again on the same pipe
