"""The process that judges by the candidate.

    python -m edge_ad.shadow.child BUNDLE

It says `Said` when it is ready; then it is asked with a part's pictures, uint8, by camera, and answers
`Said`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from edge_ad.aside import Line, Pipes, begin, serve

if __name__ == "__main__":
    pipes = begin()

import cv2

from edge_ad.bundle import open_bundle
from edge_ad.engines import EngineChoice
from edge_ad.errors import EdgeAdError
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.shadow.said import Said

CPU = EngineChoice(threads=1)


def main(pipes: Pipes) -> int:
    """Serve until nobody asks."""
    cv2.setNumThreads(1)
    try:
        inspector = open_inspector(open_bundle(Path(sys.argv[1])), CPU)
        inspector.warm_up(rounds=1)
    except EdgeAdError as error:
        line: Line[Said, None] = Line(pipes, type(None))
        line.say(Said(error=str(error)))
        return error.exit_code
    serve(pipes, dict[str, Image], lambda images: _judge(inspector, images), Said())
    inspector.close()
    return 0


def _judge(inspector: Inspector, images: Mapping[str, Image]) -> Said:
    try:
        verdict = inspector.inspect_part([images[name] for name in inspector.cameras])
    except EdgeAdError as error:
        return Said(error=str(error))
    return Said(verdict.decision.value, verdict.reason.value, verdict.score, verdict.threshold)


if __name__ == "__main__":
    sys.exit(main(pipes))
