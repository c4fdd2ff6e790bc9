"""What lies in a bundle's qualification/: whole, damaged, of another bundle, cut off by a kill."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up_bundle import KEY, write_tiny_bundle

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle import Bundle, activate, list_bundles, open_bundle
from edge_ad.bundle.describe import bundle_lines, entry_line
from edge_ad.bundle.qualification import BadPart, Measured, Qualification, read_detection
from edge_ad.bundle.store import write_qualification
from edge_ad.errors import ArtifactError
from edge_ad.qualify.statistics import by_kind, detected

TESTS = Path(__file__).resolve().parents[1]


def made_up(bundle: Bundle, misses: int = 1) -> Qualification:
    """Ten known-bad parts, of which `misses` passed."""
    parts = [
        BadPart(
            source=f"dent/{i}.png", kind="dent", verdict="PASS" if i < misses else "REJECT",
            reason="", score=5.0 + i, margin=0.5 + i, view="top",
            picture="misses/0001.png" if i < misses else "",
        )
        for i in range(10)
    ]  # fmt: skip
    measured = Measured(
        engine=EngineIdentity("openvino", "1", "a CPU", "f32", bundle.manifest.backbone.sha256),
        threshold=bundle.section(KEY).threshold,
        overall=detected(parts),
        kinds=by_kind(parts),
        parts=parts,
        repeatability=None,
        left_out=[],
        warnings=[],
    )
    return Qualification(
        bundle=bundle.manifest.id, bundle_sha256=bundle.sha256, created="2026-01-31T12:00:00Z",
        edge_ad="0", engines={KEY: measured},
    )  # fmt: skip


FILES = {"report.html": b"<html>", "misses/0001.png": b"a picture"}


def qualified(state: Path, seed: int = 0) -> Path:
    """A made-up bundle with a made-up qualification."""
    path = write_tiny_bundle(state, seed)
    write_qualification(path, made_up(open_bundle(path)), FILES)
    return path


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def shown(path: Path) -> str:
    """`bundle show`."""
    return "\n".join(bundle_lines(open_bundle(path)))


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = qualified(tmp_path / "state")
    opened = open_bundle(path)
    assert opened.detection.problem == ""
    assert opened.detection.engines == made_up(opened).engines
    assert "10 known-bad parts: 90 % detected, at least 60.5 % with 95 % confidence; 1 missed" in shown(
        path
    )
    assert str(path / "qualification" / "report.html") in shown(path)
    (entry,) = list_bundles(tmp_path / "state", "disc")
    assert "90 % of 10 bad parts detected" in entry_line(entry)


def test_a_bundle_without_one_says_so(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "state")
    assert read_detection(path).engines == {}
    assert "detection not measured\n" in shown(path)
    (entry,) = list_bundles(tmp_path / "state", "disc")
    assert "detection not measured" in entry_line(entry)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (
        lambda q: replace(
            q / "qualification.json",
            (q / "qualification.json").read_bytes().replace(b"0.6", b"0.7"),
        ),
        "is not what qualification.sha256 says",
    ),
    "cut off": (
        lambda q: replace(q / "qualification.json", (q / "qualification.json").read_bytes()[:300]),
        "qualification.json: ",
    ),
    "no json": (lambda q: replace(q / "qualification.json", b"\xff\xfe"), "qualification.json: "),
    "gone": (lambda q: (q / "qualification.json").unlink(), "No such file"),
    "no sums": (lambda q: (q / "qualification.sha256").unlink(), "No such file"),
    "a miss": (lambda q: replace(q / "misses" / "0001.png", b"another"), "0001.png is not the file"),
    "a miss gone": (lambda q: (q / "misses" / "0001.png").unlink(), "0001.png is missing"),
    "an extra": (
        lambda q: (q / "misses" / "x.png").write_bytes(b""),
        "x.png is not in qual",
    ),
    "emptied": (shutil.rmtree, "No such file"),
    "a file": (shutil.rmtree, "is no directory"),
    "a link": (shutil.rmtree, "is no directory"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_one_is_said_and_does_not_refuse_the_bundle(tmp_path: Path, name: str) -> None:
    path = qualified(tmp_path / "state")
    place = path / "qualification"
    damage, message = DAMAGE[name]
    damage(place)
    if name == "emptied":
        place.mkdir()
    elif name == "a file":
        place.write_bytes(b"")
    elif name == "a link":
        place.symlink_to(tmp_path)
    opened = open_bundle(path)
    assert opened.detection.engines == {}
    assert message in opened.detection.problem
    assert "detection not measured: qualification is damaged: " in shown(path)
    assert "run 'edge-ad qualify' again" in shown(path)
    (entry,) = list_bundles(tmp_path / "state", "disc")
    assert "detection not measured (damaged)" in entry_line(entry)
    activate(tmp_path / "state", "disc", path.name)
    if name in ("a file", "a link"):
        with pytest.raises(ArtifactError, match="remove it and qualify again"):
            write_qualification(path, made_up(opened), FILES)
    else:
        write_qualification(path, made_up(opened), FILES)
        assert open_bundle(path).detection.engines


def test_one_of_another_bundle_is_not_believed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two = qualified(state, 0), write_tiny_bundle(state, 1)
    shutil.copytree(one / "qualification", two / "qualification")
    problem = open_bundle(two).detection.problem
    assert open_bundle(one).sha256[:12] in problem
    assert open_bundle(two).sha256[:12] in problem


def test_nothing_else_may_lie_beside_the_manifests_files(tmp_path: Path) -> None:
    path = qualified(tmp_path / "state")
    shutil.copytree(path / "qualification", path / "qualification2")
    with pytest.raises(ArtifactError, match=r"qualification2/.* is not in the manifest"):
        open_bundle(path)


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = qualified(tmp_path / "state")
    before = read_detection(path)
    with pytest.raises(OSError):
        write_qualification(path, made_up(open_bundle(path)), {**FILES, "misses": b"a file"})
    assert read_detection(path) == before
    assert not list(path.parent.glob(".tmp-*"))


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/qualify"]
from test_qualify_stored import FILES, made_up
from edge_ad.bundle import open_bundle
from edge_ad.bundle.store import write_qualification
path = Path(sys.argv[1])
bundle = open_bundle(path)
print("go", flush=True)
misses = 0
while True:
    misses = 1 - misses
    files = FILES if misses else {"report.html": b"none"}
    write_qualification(path, made_up(bundle, misses), files)
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    path = write_tiny_bundle(state)
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(TESTS)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        time.sleep(float(rng.uniform(0.05, 0.3)))
        process.kill()
        process.communicate()
        assert open_bundle(path).detection.problem == ""  # one of the two, or none; never half of one
    write_qualification(path, made_up(open_bundle(path)), FILES)
    assert read_detection(path).engines[KEY].overall.missed == 1
    assert not list(path.parent.glob(".tmp-*"))
    write_tiny_bundle(state, 1)
