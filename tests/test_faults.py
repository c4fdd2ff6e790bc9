"""The page of faults names tests that exist, and every fault of the delivery is on it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "deploy" / "faults.md"
FAULTS = {*range(1, 41), 61, 62, 63, 64}


def rows() -> dict[int, list[str]]:
    """The tests of each fault, "FILE::NAME"."""
    found: dict[int, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| (\d+) \|", line)
        if match:
            found[int(match[1])] = re.findall(r"`(tests/[^`]+)`", line)
    return found


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_fault_is_there_and_shown_by_a_test() -> None:
    assert set(rows()) == FAULTS
    assert [number for number, tests in rows().items() if not tests] == []


def test_the_tests_exist() -> None:
    missing = []
    for tests in rows().values():
        for name in tests:
            path, _, function = name.partition("::")
            if not (ROOT / path).is_file() or function not in functions(ROOT / path):
                missing.append(name)
    assert missing == []
