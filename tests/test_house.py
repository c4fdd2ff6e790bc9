"""The rules of the house that no single module can hold: who may import whom, lint, types."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "edge_ad"

# room -> rooms it must never import: data goes one way, from the camera to the verdict.
FORBIDDEN = {
    "gaussian": {"capture", "backbone", "bundle", "inspector", "delivery", "daemon", "cli", "calibrate"},
    "backbone": {"gaussian", "capture", "bundle", "inspector", "delivery", "daemon", "cli", "calibrate"},
    "cuda": {
        "gaussian",
        "backbone",
        "capture",
        "preprocess",
        "bundle",
        "inspector",
        "delivery",
        "daemon",
        "cli",
        "calibrate",
    },
    "capture": {"gaussian", "backbone", "bundle", "inspector", "delivery", "daemon", "cli", "calibrate"},
    "locate": {
        "capture",
        "gaussian",
        "backbone",
        "bundle",
        "inspector",
        "delivery",
        "daemon",
        "cli",
        "calibrate",
    },
    "zones": {"gaussian", "backbone", "bundle", "inspector", "delivery", "daemon", "cli", "calibrate"},
    "preprocess": {"gaussian", "backbone", "bundle", "inspector", "delivery", "daemon", "cli"},
    "delivery": {"gaussian", "backbone", "capture", "bundle", "inspector", "daemon", "evidence", "cli"},
    "bundle": {"capture", "inspector", "delivery", "daemon", "evidence", "cli", "calibrate"},
    "evidence": {"gaussian", "backbone", "bundle", "inspector", "daemon", "cli", "calibrate", "metrics"},
    "inspector": {"capture", "delivery", "daemon", "evidence", "cli", "calibrate", "metrics"},
    "metrics": {"gaussian", "backbone", "capture", "inspector", "daemon", "cli"},
    "monitor": {
        "gaussian",
        "backbone",
        "capture",
        "inspector",
        "daemon",
        "evidence",
        "cli",
        "calibrate",
    },
    "shadow": {"gaussian", "backbone", "capture", "daemon", "evidence", "cli", "calibrate", "metrics"},
    "engines": {"bundle", "capture", "inspector", "delivery", "daemon", "evidence", "cli", "calibrate"},
    "backup": {"daemon", "cli", "calibrate", "capture", "inspector", "evaluate", "qualify"},
    "daemon": {"cli", "evaluate", "qualify", "resolution"},
    "qualify": {"cli", "evaluate", "demo", "resolution"},
    "replay": {"cli", "daemon", "evaluate", "demo", "resolution"},
    "resolution": {"cli", "evaluate", "demo"},
    "evaluate": {"cli", "daemon", "delivery"},
}
HEAVY = {"torch", "timm", "torchvision", "sklearn", "scipy", "matplotlib", "onnx", "onnxruntime"}
# The only files that may name the heavy packages; each does so inside a function or on its own extra.
HEAVY_ALLOWED = {
    "backbone/export.py",
    "backbone/torch_graph.py",
    "backbone/tensorrt/graph.py",
    "backbone/tensorrt/quantize.py",
    "evaluate/baselines.py",
}


def _imports(path: Path) -> set[str]:
    """Absolute names of everything a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def test_rooms_import_one_way() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules()
        for name in _imports(path)
        if name.startswith("edge_ad.") and name.split(".")[1] in FORBIDDEN.get(_room(path), set())
    ]
    assert broken == []


def test_only_these_files_name_the_heavy_packages() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules()
        if str(path.relative_to(PACKAGE)) not in HEAVY_ALLOWED
        for name in _imports(path)
        if name.split(".")[0] in HEAVY
    ]
    assert broken == []


def test_nothing_is_unpickled() -> None:
    banned = ("import pickle", "allow_pickle=True", "torch.load(", "joblib", "cPickle")
    broken = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in _modules()
        for word in banned
        if word in path.read_text(encoding="utf-8")
    ]
    assert broken == []


def test_import_of_the_package_loads_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import edge_ad;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names) - {'edge_ad'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def run_module(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["check", "."], ["format", "--check", "."]], ids=" ".join)
def test_lint(arguments: list[str]) -> None:
    run_module("ruff", *arguments)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the types of its last NumPy, 2.2, are others")
def test_types() -> None:
    # From Python 3.12 on NumPy's types are written in the syntax of that.
    run_module("mypy", *(["--python-version", "3.10"] if sys.version_info < (3, 12) else []))
