"""One state directory has one daemon, or one station at the gate: a lock file that dies with its process
sees to that."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from edge_ad.errors import DeliveryError, DeviceError


class StateLock:
    """Holds a state directory for this process: a second one is refused with the first one's pid.

    The lock is the kernel's (flock), so a killed process leaves none behind. `who` is what runs.
    """

    def __init__(self, state: Path, who: str = "daemon") -> None:
        path = state / f"{who}.lock"
        try:
            state.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+", encoding="ascii")
        except OSError as error:
            raise DeviceError(
                f"state_dir: {state} is not writable ({error.strerror}); {_remedy(state, error)}"
            ) from error
        if not _try_lock(self._file.fileno(), patience_s=0.5):
            pid = _read_pid(path)
            self._file.close()
            raise DeliveryError(
                f"state_dir: {state} belongs to the running {who} with pid {pid or '?'}; "
                "stop it or set another state_dir"
            )
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()
        except OSError as error:
            self._file.close()
            raise DeviceError(
                f"{path}: cannot be written ({error.strerror}); free some space"
            ) from error

    def release(self) -> None:
        """Idempotent."""
        self._file.close()


def running_pid(state: Path) -> int | None:
    """The pid of the daemon that holds the state directory, or None."""
    path = state / "daemon.lock"
    try:
        with path.open(encoding="ascii") as file:
            # Shared and short: a daemon that starts in this moment tries again, see _try_lock.
            if _try_lock(file.fileno(), patience_s=0.0, kind=fcntl.LOCK_SH):
                return None
    except OSError:
        return None
    return _read_pid(path)


def _remedy(state: Path, error: OSError) -> str:
    given = [Path(one) for one in os.environ.get("STATE_DIRECTORY", "").split(":") if one]
    if given and not any(state.is_relative_to(one) for one in given):
        # A service may write to nothing else, whatever the directory's owner and mode are.
        return f"set {given[0]}, or give the unit ReadWritePaths={state}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"'chown -R {os.geteuid()}: {state}' where another user wrote there, or set another"
    return "make it so or set another"


def _try_lock(descriptor: int, patience_s: float, kind: int = fcntl.LOCK_EX) -> bool:
    end = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        else:
            return True


def _read_pid(path: Path) -> int | None:
    text = path.read_text(encoding="ascii").strip()
    return int(text) if text.isdigit() else None
