from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_bundle import KEY, tiny_contents, write_tiny_bundle
from safetensors.numpy import load_file, save
from tiny_backbone import write_tiny_backbone
from tiny_station import edge_ad

from edge_ad.bundle import (
    activate,
    bundle_id,
    current_path,
    list_bundles,
    open_bundle,
    previous_path,
    rollback,
    tensor_name,
    write_bundle,
)
from edge_ad.errors import ArtifactError, CheckFailed

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in its state directory; tests that change something take a copy."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "state")


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    state = tmp_path / "state"
    shutil.copytree(original.parents[2], state, symlinks=True)
    return state / original.relative_to(original.parents[2])


def forge(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as somebody would who also writes the right hashes."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    data = json.dumps(manifest).encode()
    replace(path, data)
    replace(bundle / "manifest.sha256", f"{hashlib.sha256(data).hexdigest()}  manifest.json\n".encode())


def forge_file(bundle: Path, name: str, data: bytes) -> None:
    replace(bundle / name, data)
    forge(bundle, lambda m: m["files"].update({name: hashlib.sha256(data).hexdigest()}))


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def good_distances(manifest: dict[str, Any]) -> dict[str, list[float]]:
    """Put in what the made-up bundle does not say of its good parts."""
    found = {level["name"]: [1.0, 2.0] for level in manifest["levels"]}
    manifest["engines"][KEY]["good_distances"] = found
    return found


def test_a_bundle_gives_back_what_was_written(original: Path) -> None:
    opened = open_bundle(original)
    manifest, tensors = tiny_contents(opened.backbone())
    assert msgspec.structs.replace(opened.manifest, files={}) == manifest
    (heads,) = opened.heads(KEY)
    for head, level in zip(heads, manifest.levels, strict=True):
        mean = tensors[tensor_name(KEY, "top", level.name, "mean")]
        assert head.offset == level.offset
        assert head.mean.dtype == head.whitening.dtype == np.float32
        np.testing.assert_array_equal(head.mean, mean.astype(np.float32))
        np.testing.assert_array_equal(
            head.whitening, tensors[tensor_name(KEY, "top", level.name, "whitening")]
        )
    assert opened.sha256 == hashlib.sha256((original / "manifest.json").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def localising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of profile "default"."""
    return write_tiny_bundle(tmp_path_factory.mktemp("local") / "state", profile="default")


def test_gaussians_of_positions_come_back_for_the_engine(localising: Path, original: Path) -> None:
    opened = open_bundle(localising)
    manifest, tensors = tiny_contents(opened.backbone(), profile="default")
    assert msgspec.structs.replace(opened.manifest, files={}) == manifest
    heads = opened.local_heads(KEY)
    assert heads is not None
    (head,) = heads
    for what in ("pooling", "context_mean", "context", "mean", "coefficients", "whitening"):
        found = getattr(head, what)
        assert found.dtype == np.float32
        expected = tensors[tensor_name(KEY, "top", "local", what)]
        np.testing.assert_array_equal(found, expected.astype(np.float32))
    with pytest.raises(ArtifactError, match="wants 'other'"):
        opened.local_heads("other")
    assert open_bundle(original).local_heads(KEY) is None


def combination(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["engines"][KEY]["local"][0]["combination"]
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.update(profile="paper"), "profile 'paper' with local features"),
        (lambda m: m.update(local=None), "profile 'default' without local features"),
        (lambda m: m["engines"][KEY].update(local=[]), "0 local fits for 1 tiles of profile 'default'"),
        (lambda m: m["engines"][KEY]["local"][0].update(q=4), r"local/context is float32 \[5, 40\]"),
        (lambda m: m["engines"][KEY]["local"][0].update(q=-1), ">= 0.*q"),
        (lambda m: combination(m).update(top=0), "largest 0 of 16 positions"),
        (lambda m: combination(m).update(top=17), "largest 17 of 16 positions"),
        (lambda m: combination(m).update(local_spread=-1.5), r"not a positive number: \[2\.0, -1\.5\]"),
        (lambda m: combination(m).update(global_spread=0.0), r"not a positive number: \[0\.0, 1\.5\]"),
        (lambda m: m["local"].update(rows=3), r"local/pooling is float64 \[4, 16\]"),
    ],
)
def test_a_manifest_that_contradicts_its_positions_is_refused(
    localising: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(localising, copy)
    forge(copy, change)
    with pytest.raises(ArtifactError, match=expected):
        open_bundle(copy)


def test_positions_of_another_backbone_are_refused(localising: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(localising.parents[2], state, symlinks=True)
    path = open_bundle(state / localising.relative_to(localising.parents[2])).backbone().directory
    changed = json.loads((path / "backbone.json").read_text())
    changed["outputs"]["local"]["seed"] = 1
    replace(path / "backbone.json", json.dumps(changed).encode())
    with pytest.raises(ArtifactError, match=r"seed=1.*seed=0"):
        open_bundle(state / localising.relative_to(localising.parents[2])).backbone()


def test_cells_without_a_spread_are_refused(localising: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(localising, copy)
    tensors = load_file(copy / "gaussian.safetensors")
    spread = tensor_name(KEY, "top", "local", "spread")
    forge_file(copy, "gaussian.safetensors", save({**tensors, spread: tensors[spread] * 0}))
    with pytest.raises(ArtifactError, match=r"local/spread goes down to 0\.0"):
        open_bundle(copy)


def test_sha256sum_agrees(original: Path) -> None:
    subprocess.run(["sha256sum", "-c", "--quiet", "manifest.sha256"], cwd=original, check=True)


def test_files_are_read_only(original: Path) -> None:
    files = [path for path in original.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert all(path.stat().st_mode & 0o222 == 0 for path in files)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_refused(original: Path, data: st.DataObject) -> None:
    files = sorted(path for path in original.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        replace(path, bytes(changed))
        with pytest.raises(ArtifactError, match="sha256"):
            open_bundle(original)
    finally:
        replace(path, content)
        path.chmod(0o444)


@pytest.mark.parametrize(
    "name", ["manifest.json", "manifest.sha256", "gaussian.safetensors", "reference/000001.png"]
)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_files_are_refused(bundle: Path, name: str, share: float) -> None:
    data = (bundle / name).read_bytes()
    replace(bundle / name, data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match="sha256"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "gaussian.safetensors", "report.html"])
def test_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        open_bundle(bundle)


def test_extra_file_and_symlink_are_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "notes.txt").write_text("x")
    with pytest.raises(ArtifactError, match=r"notes.txt is not in the manifest"):
        open_bundle(bundle)
    (bundle / "notes.txt").unlink()
    outside = tmp_path / "report.html"
    shutil.move(bundle / "report.html", outside)
    (bundle / "report.html").symlink_to(outside)
    with pytest.raises(ArtifactError, match="symlink"):
        open_bundle(bundle)


def test_a_pickle_is_never_executed(bundle: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    forge_file(bundle, "gaussian.safetensors", pickle.dumps(Evil()))
    with pytest.raises(ArtifactError, match=r"not a safetensors file.*starts with"):
        open_bundle(bundle)
    with pytest.raises(ArtifactError, match="is a file"):
        open_bundle(bundle / "gaussian.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.update(schema=2), "schema 2, this edge_ad reads schema 1"),
        (lambda m: m["preprocess"].update(rule="other-9"), "'other-9', this edge_ad has 'halve-area-2'"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("views"), "views"),
        (lambda m: m["views"][0].update(camera="side"), "'side'.*top"),
        (lambda m: m["engines"].update(other=m["engines"].pop(KEY)), "'other' belongs to.*openvino-f32"),
        (
            lambda m: m["backbone"].update(sha256="f" * 64),
            "of backbone [0-9a-f]{12}, the bundle of ffff",
        ),
        (lambda m: m["engines"][KEY].update(threshold=-1.0), "not a positive number"),
        (lambda m: m["engines"][KEY].update(scales=[]), "0 scales for 1 tiles"),
        (lambda m: good_distances(m).update(level9=[1.0]), r"levels \[.*'level9'\], it has \['level1',"),
        (lambda m: good_distances(m).pop("level1"), r"levels \['level2',.*it has \['level1', 'level2'"),
        (
            lambda m: good_distances(m).update(level2=[2.0, 1.0]),
            "level 'level2' are not at most 1000.*order",
        ),
        (lambda m: good_distances(m).update(level2=[]), "no good part's distance at level 'level2'"),
        (lambda m: m["views"][0].update(roi=[-5, 0, 10, 10]), ">= 0.*roi"),
        (lambda m: m["views"][0].update(roi=[0, 0, 0, 0]), ">= 8.*roi"),
        (
            lambda m: m["preprocess"]["cameras"]["top"].update(frame_size="fixed", width=0),
            "'top' has frames of 0 x",
        ),
        (lambda m: m["preprocess"].update(height=0), ">= 1.*height"),
        (lambda m: m["engines"][KEY]["promise"].update(target=0.0), "target"),
        (lambda m: m["files"].update({"../../x": "0"}), "missing"),
        (lambda m: m["levels"][0].update(dim=9), r"\[8\], the manifest says float64 \[9\]"),
    ],
)
def test_a_manifest_of_something_else_is_refused(
    bundle: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    forge(bundle, change)
    with pytest.raises(ArtifactError, match=expected) as caught:
        open_bundle(bundle)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_no_text_is_refused(bundle: Path) -> None:
    forge(bundle, lambda m: m.update(id="ID"))
    data = (bundle / "manifest.json").read_bytes().replace(b'"ID"', b'"\xed\xa0"')
    replace(bundle / "manifest.json", data)
    sha256 = hashlib.sha256(data).hexdigest()
    replace(bundle / "manifest.sha256", f"{sha256}  manifest.json\n".encode())
    with pytest.raises(ArtifactError, match="utf-8"):
        open_bundle(bundle)


def test_tensors_must_be_what_the_manifest_says(bundle: Path) -> None:
    tensors = load_file(bundle / "gaussian.safetensors")
    name = tensor_name(KEY, "top", "level1", "mean")
    for wrong, expected in [
        ({**tensors, name: tensors[name].astype(np.float32)}, "float32.*float64"),
        ({**tensors, name: tensors[name] * np.nan}, "not finite"),
        ({**tensors, "extra": np.zeros(1)}, "extra"),
        ({k: v for k, v in tensors.items() if k != name}, "lacks.*level1/mean"),
    ]:
        forge_file(bundle, "gaussian.safetensors", save(wrong))
        with pytest.raises(ArtifactError, match=expected):
            open_bundle(bundle)


def test_a_missing_section_names_both_sides(original: Path) -> None:
    with pytest.raises(ArtifactError, match=r"\['openvino-f32'\].*wants 'tensorrt-f16'.*--refit"):
        open_bundle(original).section("tensorrt-f16")


def test_another_backbone_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = write_tiny_backbone(tmp_path / "other", seed=1)
    own = open_bundle(bundle).manifest.backbone.sha256
    with pytest.raises(ArtifactError, match=rf"{other.sha256[:12]}.*{own[:12]}"):
        open_bundle(bundle, other.directory)
    elsewhere = tmp_path / "copy" / "bundle"
    shutil.copytree(bundle, elsewhere)
    assert open_bundle(elsewhere, bundle.parents[2] / "backbones" / own)
    with pytest.raises(ArtifactError, match="its backbone tiny is not at"):
        open_bundle(elsewhere).backbone()


def test_a_changed_backbone_json_is_refused(bundle: Path) -> None:
    path = open_bundle(bundle).backbone().directory / "backbone.json"
    replace(path, path.read_bytes().replace(b'"x2"', b'"x9"'))
    with pytest.raises(ArtifactError, match=r"x9.*x2"):
        open_bundle(bundle).backbone()


def test_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="edge-ad calibrate"):
        open_bundle(tmp_path / "none")
    assert current_path(tmp_path, "disc") is None
    assert list_bundles(tmp_path, "disc") == []
    with pytest.raises(CheckFailed, match="no previous bundle"):
        rollback(tmp_path, "disc")
    assert list(tmp_path.iterdir()) == []


def test_activate_and_roll_back_twice(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two, three = (write_tiny_bundle(state, seed) for seed in range(3))
    activate(state, "disc", one.name)
    assert current_path(state, "disc") == one
    assert previous_path(state, "disc") is None
    with pytest.raises(CheckFailed):
        rollback(state, "disc")
    activate(state, "disc", two.name)
    activate(state, "disc", two.name)
    assert (current_path(state, "disc"), previous_path(state, "disc")) == (two, one)
    assert rollback(state, "disc") == one
    assert rollback(state, "disc") == two
    assert (current_path(state, "disc"), previous_path(state, "disc")) == (two, one)
    activate(state, "disc", three.name)
    assert {e.id: (e.active, e.previous) for e in list_bundles(state, "disc")} == {
        one.name: (False, False), two.name: (False, True), three.name: (True, False),
    }  # fmt: skip
    assert open_bundle(state / "bundles" / "disc" / "current").path == three


def test_a_refused_bundle_is_not_activated(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two = write_tiny_bundle(state, 0), write_tiny_bundle(state, 1)
    activate(state, "disc", one.name)
    replace(two / "report.html", b"changed")
    with pytest.raises(ArtifactError, match=r"report\.html"):
        activate(state, "disc", two.name)
    with pytest.raises(ArtifactError, match="no bundle 'nope'"):
        activate(state, "disc", "nope")
    with pytest.raises(ArtifactError, match="no bundle 'current'"):
        activate(state, "disc", "current")
    shutil.copytree(one, state / "bundles" / "bolt" / one.name)
    with pytest.raises(ArtifactError, match=r"of product 'disc', its place says .* of 'bolt'"):
        activate(state, "bolt", one.name)
    assert current_path(state, "disc") == one


def test_bundles_are_never_overwritten(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "state")
    before = (path / "manifest.json").stat().st_ino
    with pytest.raises(ArtifactError, match="never overwritten"):
        write_tiny_bundle(tmp_path / "state")
    assert (path / "manifest.json").stat().st_ino == before


def test_what_cannot_be_opened_is_not_written(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path / "net")
    manifest, tensors = tiny_contents(backbone)
    name = tensor_name(KEY, "top", "level1", "mean")
    with pytest.raises(ArtifactError, match="not finite"):
        write_bundle(
            tmp_path, manifest, {**tensors, name: tensors[name] * np.inf}, {"reference/000001.png": b""}
        )
    assert list_bundles(tmp_path, "disc") == []
    assert not list((tmp_path / "bundles" / "disc").glob(".tmp-*"))


def test_a_vanished_bundle_is_said(tmp_path: Path) -> None:
    state = tmp_path / "state"
    path = write_tiny_bundle(state)
    activate(state, "disc", path.name)
    shutil.rmtree(path)
    with pytest.raises(ArtifactError, match=path.name):
        current_path(state, "disc")


def test_concurrent_activations_leave_a_valid_pair(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ids = [write_tiny_bundle(state, seed).name for seed in range(3)]
    activate(state, "disc", ids[0])

    def switch(number: int) -> None:
        activate(state, "disc", ids[number % 3])
        path = current_path(state, "disc")
        assert path is not None
        open_bundle(path)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(switch, range(60)))
    pair = current_path(state, "disc"), previous_path(state, "disc")
    assert None not in pair
    assert pair[0] != pair[1]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from made_up_bundle import write_tiny_bundle
from edge_ad.bundle import activate, rollback
state = Path(sys.argv[1])
seed = int(sys.argv[3])
print("go", flush=True)
while True:
    seed += 1
    activate(state, "disc", write_tiny_bundle(state, seed).name)
    rollback(state, "disc")
"""


def test_killed_while_writing_and_switching(tmp_path: Path) -> None:
    state = tmp_path / "state"
    activate(state, "disc", write_tiny_bundle(state, 0).name)
    rng = np.random.default_rng(0)
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(state), str(TESTS), str(1000 * (round_ + 1))],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(rng.uniform(0.05, 0.3)))
        process.kill()
        process.communicate()
        path = current_path(state, "disc")
        assert path is not None
        open_bundle(path).backbone()
        for entry in list_bundles(state, "disc"):
            open_bundle(entry.path)
    activate(state, "disc", write_tiny_bundle(state, 1).name)
    assert not list((state / "bundles" / "disc").glob(".tmp-*"))
    rollback(state, "disc")


def test_command_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two = write_tiny_bundle(state, 0), write_tiny_bundle(state, 1)
    place = ("--state", state, "--product", "disc")
    done = edge_ad("bundle", "activate", one.name, *place)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{one.name} is active" in done.stdout
    assert "no daemon" in done.stdout
    edge_ad("bundle", "activate", two.name, *place)
    assert f"{one.name} is active" in edge_ad("bundle", "rollback", *place).stdout
    rows = json.loads(edge_ad("bundle", "list", *place, "--json").stdout)
    assert [(r["id"], r["active"], r["previous"]) for r in rows] == [
        (one.name, True, False), (two.name, False, True),
    ]  # fmt: skip
    shown = edge_ad("bundle", "show", *place)
    assert "detection not measured" in shown.stdout
    assert "40 parts: 2.4 % false rejects expected" in shown.stdout
    manifest = json.loads(edge_ad("bundle", "show", two, "--json").stdout)["manifest"]
    assert manifest["id"] == two.name
    out = tmp_path / "verify.json"
    assert edge_ad("bundle", "verify", "previous", *place, "--json", out).returncode == 0
    assert json.loads(out.read_text())["ok"] is True


def test_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "state")
    replace(path / "report.html", b"changed")
    done = edge_ad("bundle", "verify", path)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "report.html has sha256" in done.stderr
    assert edge_ad("bundle", "list").returncode == 2
    assert edge_ad("bundle", "rollback", "--state", tmp_path / "state").returncode == 1


def test_the_same_content_of_the_same_second_has_another_name() -> None:
    moment = datetime(2026, 1, 31, 23, 59, 59, 7, tzinfo=timezone.utc)
    first, again = (bundle_id(moment.replace(microsecond=part), b"content") for part in (7, 8))
    assert first != again
    assert first[:17] == again[:17] == "20260131T235959Z-"
    assert first == bundle_id(moment, b"content")
