"""What is read of programs that were started as processes."""

from __future__ import annotations

from pathlib import Path


def last_line(log: Path) -> str:
    """The last line that a process wrote."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
