"""What a disk may hold after a power cut: images rebuilt from a trace of what a program wrote.

`python power_cut.py DIRECTORY SEED` is the program: it keeps verdicts over several starts and says on
stdout, line by line, what is begun and what is committed. Under strace its writes are recorded; a cut
keeps all that was synced before it, and any subset of what was not, the last of it perhaps torn.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from edge_ad.delivery.outbox import Outbox, Record

TRACE = "openat,pwrite64,write,ftruncate,fsync,fdatasync,unlink,close"
_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)\)\s+= (-?\d+)(?:<([^>]*)>)?")
_TORN = 512  # bytes that a disk writes whole


@dataclass
class Action:
    """One step of the trace. kind: create, write, truncate, unlink, begin (of a sync), sync, directory
    (synced), say. offset: of a begin and its sync the thread; 0: nothing came in between."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


@dataclass
class _File:
    """A file as the disk is known to hold it, and what was done to it since."""

    data: bytearray = field(default_factory=bytearray)
    pending: list[Action] = field(default_factory=list)


def write_verdicts(directory: Path, seed: int) -> None:
    """The program under trace: three starts, the first two not closed by anyone."""
    rng = random.Random(seed)
    kept: list[Outbox] = []
    for start in range(3):
        epoch = f"e{start}"
        outbox = Outbox(
            directory / "outbox.db", epoch, ("gate",), time.monotonic_ns, time.time_ns, 0, 200_000_000
        )
        kept.append(outbox)
        say(f"begun {epoch}")
        seq = 0
        for step in range(60):
            batch = []
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                seq += 1
                decision = rng.choice(("PASS", "PASS", "PASS", "REJECT", "FAULT"))
                batch.append(
                    Record(seq, f"P{seq}", decision, b"{}", rng.randbytes(rng.randrange(50, 900)), 0)
                )
            say("given " + " ".join(f"{epoch}:{r.seq}:{r.decision}" for r in batch))
            level = outbox.add(batch)
            say(f"committed {level} " + " ".join(f"{epoch}:{r.seq}:{r.decision}" for r in batch))
            if step % 15 == 14:
                outbox.checkpoint()
                time.sleep(0.01)  # beside the commits that follow, or before them
            if step % 20 == 19:
                outbox.tidy()
    os._exit(0)


def say(text: str) -> None:
    """One write of its own in the trace."""
    os.write(1, text.encode() + b"\n")


def read_trace(path: Path, directory: Path) -> list[Action]:
    """The actions on the outbox's files, in order; calls that were interrupted by another thread's are
    put together at their end, where they took effect."""
    actions: list[Action] = []
    half: dict[str, str] = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        pid = line.split(maxsplit=1)[0]
        if "<unfinished ...>" in line:
            half[pid] = line.replace(" <unfinished ...>", "")
            if "sync(" in line:  # it says nothing of what is written from here on
                begun = _parse(half[pid] + ") = 0", directory)
                if begun is not None and begun.kind == "sync":
                    actions.append(Action("begin", begun.name, int(pid)))
            continue
        resumed = "resumed>" in line
        if resumed:
            line = half.pop(pid) + line.split("resumed>", 1)[1]
        action = _parse(line, directory)
        if action is not None:
            if resumed and action.kind == "sync":
                action.offset = int(pid)
            actions.append(action)
    return actions


def _parse(line: str, directory: Path) -> Action | None:
    """One call, if it succeeded and is about the directory or is something said."""
    match = _CALL.match(line)
    if match is None or int(match[3]) < 0:
        return None
    opened = None if match[4] is None else _plain(match[4])
    return _action(match[1], match[2], int(match[3]), opened, str(directory))


def _action(call: str, text: str, result: int, opened: str | None, directory: str) -> Action | None:
    if call == "openat":
        if opened is None or not opened.startswith(directory + "/") or "O_CREAT" not in text:
            return None
        return Action("create", Path(opened).name)
    if call == "unlink":
        name = _bytes(text).decode()
        return Action("unlink", Path(name).name) if name.startswith(directory) else None
    handle = re.match(r"(\d+)<([^>]*)>", text)
    if handle is None:
        return None
    opened = _plain(handle[2])
    if call == "write" and handle[1] == "1":
        return Action("say", "", data=_bytes(text)[:result])
    if opened == directory and call in ("fsync", "fdatasync"):
        return Action("directory", "")
    if not opened.startswith(directory + "/"):
        return None
    name = Path(opened).name
    if call in ("fsync", "fdatasync"):
        return Action("sync", name)
    if call == "ftruncate":
        return Action("truncate", name, int(text.rsplit(",", 1)[1]))
    if call == "pwrite64":
        return Action("write", name, int(text.rsplit(",", 1)[1]), _bytes(text)[:result])
    return None


def _plain(text: str) -> str:
    """A path, as strace -xx writes it."""
    return bytes.fromhex(text.replace("\\x", "")).decode()


def _bytes(text: str) -> bytes:
    """The string of a call, as strace -xx writes it."""
    quoted = re.search(r'"((?:\\x[0-9a-f]{2})*)"', text)
    assert quoted is not None, text[:200]
    return bytes.fromhex(quoted[1].replace("\\x", ""))


def image(actions: list[Action], rng: random.Random) -> dict[str, bytes]:
    """The files after a cut at the end of `actions`, as the disk may have left them, without -shm, which
    is rebuilt."""
    files: dict[str, _File] = {}
    begun: dict[int, list[Action]] = {}  # by thread that syncs, what it covers
    linked: set[str] = set()  # whose name is on the disk for certain
    for action in actions:
        name = action.name
        if action.kind == "directory":
            linked = set(files)
        elif action.kind == "create":
            files.setdefault(name, _File())
        elif action.kind == "unlink":
            files.pop(name, None)
        elif action.kind == "begin":
            begun[action.offset] = list(files[name].pending)
        elif action.kind == "sync":
            file = files[name]
            covered = {id(pending) for pending in begun.pop(action.offset, file.pending)}
            for pending in file.pending:
                if id(pending) in covered:
                    _apply(file.data, pending)
            file.pending = [pending for pending in file.pending if id(pending) not in covered]
        elif action.kind in ("write", "truncate"):
            files.setdefault(name, _File()).pending.append(action)
    found = {}
    for name, file in files.items():
        if name.endswith("-shm") or (name not in linked and rng.random() < 0.5):
            continue
        data = bytearray(file.data)
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for pending in file.pending:
            if rng.random() >= share:
                continue
            if rng.random() < 0.1 and len(pending.data) > _TORN:
                sectors = rng.randrange(1, len(pending.data) // _TORN)
                pending = Action("write", name, pending.offset, pending.data[: sectors * _TORN])
            _apply(data, pending)
        found[name] = bytes(data)
    return found


def _apply(data: bytearray, action: Action) -> None:
    if action.kind == "truncate":
        del data[action.offset :]
        data.extend(b"\0" * (action.offset - len(data)))
        return
    end = action.offset + len(action.data)
    data.extend(b"\0" * (end - len(data)))
    data[action.offset : end] = action.data


if __name__ == "__main__":
    write_verdicts(Path(sys.argv[1]), int(sys.argv[2]))
