"""What kernels use of a GPU, read from what ptxas tells, and a table of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_ad.cuda.sources import SOURCES
from edge_ad.errors import DeviceError

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a kernel for an architecture: registers of a thread, bytes of its stack, of spilled registers
    (stores and loads) and of static shared memory."""

    kernel: str
    architecture: int
    registers: int
    stack: int
    spilled: int
    shared: int


def parse_usage(told: str) -> list[Usage]:
    """From what ptxas tells with `-v`. Raises DeviceError where that is not understood."""
    usage = []
    for part in told.split("Compiling entry function")[1:]:
        entry = _ENTRY.search("Compiling entry function" + part)
        spills, used = _SPILLS.search(part), _USED.search(part)
        if not entry or not spills or not used:
            raise DeviceError(f"ptxas tells of a kernel in a way that is not understood: {part[:200]!r}")
        stack, stores, loads = (int(number) for number in spills.groups())
        numbers = int(used[1]), stack, stores + loads, int(used[2] or 0)
        usage.append(Usage(entry[1], int(entry[2]), *numbers))
    return usage


def report(usage: Mapping[str, Sequence[Usage]]) -> str:
    """Tables of what each source's kernels use, by compiler (its name and version)."""
    return "\n".join(
        _table(f"{source.path.name} by {compiler}", source.kernels, used)
        for compiler, used in usage.items()
        for source in SOURCES
    )


def _table(title: str, kernels: Sequence[str], usage: Sequence[Usage]) -> str:
    lines = [
        title,
        "",
        f"{'kernel':<16} {'sm':>4} {'registers':>9} {'stack':>6} {'spilled':>7} {'shared':>6}   (bytes)",
    ]
    own = [u for u in usage if u.kernel in kernels]
    lines += [
        f"{u.kernel:<16} {u.architecture:>4} {u.registers:>9} {u.stack:>6} {u.spilled:>7} {u.shared:>6}"
        for u in sorted(own, key=lambda u: (kernels.index(u.kernel), u.architecture))
    ]
    return "\n".join(lines) + "\n"
