"""The process that encodes the pictures of parts that are kept.

    python -m edge_ad.evidence.encode_aside [NICE]

It is asked with `encode.Pictures`, and answers `encode.Encoded`, as it does once when it is ready.
"""

from __future__ import annotations

import sys

from edge_ad.aside import begin, serve

if __name__ == "__main__":
    pipes = begin(*map(int, sys.argv[1:]))

import cv2

from edge_ad.evidence.encode import Encoded, Pictures, encode

if __name__ == "__main__":
    cv2.setNumThreads(1)
    serve(pipes, Pictures, encode, Encoded())
