"""The child of a calibration: reads a job from standard input, writes JSON lines to standard output.

It runs at low priority and changes nothing but the work directory and the store of kept frames, so it
may be killed at any moment. When its parent is gone the next line it writes ends it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import msgspec
from safetensors.numpy import save

from edge_ad.backbone.spec import load_backbone
from edge_ad.bundle.manifest import TENSORS
from edge_ad.calibrate.fit import fit
from edge_ad.calibrate.job import Failed, Job, Message, Outcome, Update
from edge_ad.calibrate.locating import settle_regions
from edge_ad.calibrate.looks import check_patches
from edge_ad.calibrate.screen import check_enough, check_new, screen
from edge_ad.durable import write_durably
from edge_ad.errors import EdgeAdError

NICE = 10


def work(job: Job) -> Outcome:
    """Do the job, telling how far it is."""
    cv2.setNumThreads(job.threads)
    backbone = load_backbone(job.backbone)
    parts, skipped, rules = screen(job, _tell)
    check_new(job, parts, skipped)
    check_enough(parts, skipped, job)
    check_patches(job, rules)
    job, rules = settle_regions(job, rules)
    outcome, tensors = fit(job, backbone, parts, skipped, rules, _tell)
    write_durably(Path(job.work) / TENSORS, save(tensors))
    return outcome


def main() -> int:
    """Exit code 0 after an outcome, else that of the error."""
    os.nice(NICE)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        _say(work(job))
    except EdgeAdError as error:
        _say(Failed(type(error).__name__, str(error)))
        return error.exit_code
    except BrokenPipeError:
        os._exit(1)  # nobody listens; an orderly exit would only fail again on the same pipe
    except OSError as error:
        _say(Failed("DeviceError", f"{job.directory}: {error}; free space or give a writable state_dir"))
        return 5
    return 0


def _tell(step: str, done: int, total: int) -> None:
    _say(Update(step, done, total))


def _say(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
