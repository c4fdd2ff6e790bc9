"""Runs the worker and turns whatever becomes of it into an outcome or one error."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from edge_ad import errors
from edge_ad.calibrate.job import Failed, Job, Message, Outcome, Update
from edge_ad.calibrate.progress import Progress
from edge_ad.errors import DeviceError, EdgeAdError

BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_worker(job: Job, progress: Progress) -> Outcome:
    """The outcome of `job`, done by a low-priority process.

    Raises what the worker raised, DeviceError when it was killed or crashed.
    """
    environment = {**os.environ, **{name: str(job.threads) for name in BLAS_THREADS}}
    log = Path(job.work) / "worker.log"
    with (
        log.open("wb") as errors_to,
        subprocess.Popen(
            [sys.executable, "-m", "edge_ad.calibrate.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors_to,
            env=environment,
        ) as process,
    ):
        try:
            result = _listen(process, job, progress)
        except BaseException:
            process.kill()
            raise
    if isinstance(result, Outcome):
        return result
    if isinstance(result, Failed):
        raise _error(result)
    raise DeviceError(
        f"the fitting process {_ending(process.returncode, log)}; the active bundle is unchanged, "
        "calibrate again"
    )


def _listen(process: subprocess.Popen[bytes], job: Job, progress: Progress) -> Outcome | Failed | None:
    """Hand over the job and follow the worker's lines to the last one."""
    assert process.stdin is not None and process.stdout is not None
    result: Outcome | Failed | None = None
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code says how
        process.stdin.write(msgspec.json.encode(job))
        process.stdin.close()
    for line in process.stdout:
        try:
            message = msgspec.json.decode(line, type=Message)
        except msgspec.DecodeError:
            continue  # cut off by its death
        if isinstance(message, Update):
            progress.update(message.step, message.done, message.total)
        else:
            result = message
    process.wait()
    return result


def _error(failed: Failed) -> EdgeAdError:
    kind = getattr(errors, failed.kind, EdgeAdError)
    error: EdgeAdError = kind(failed.message)
    return error


def _ending(code: int, log: Path) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return f"ended with code {code} ({lines[-1] if lines else 'no message'})"
