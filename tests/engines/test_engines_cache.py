"""Engines on disk: found, refused, damaged; nothing is ever built on a lookup."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_ad.backbone.tensorrt.cache import (
    Entry,
    NumericCheck,
    Record,
    check_writable,
    read_entries,
    read_entry,
    read_plan,
    read_timings,
    store,
    write_check,
    write_timings,
)
from edge_ad.backbone.tensorrt.key import EngineKey, identity
from edge_ad.backbone.tensorrt.library import Library
from edge_ad.backbone.tensorrt.lookup import find_engine
from edge_ad.cuda.facts import DeviceFacts
from edge_ad.errors import ArtifactError, DeviceError

ORIN = DeviceFacts(
    name="Orin",
    compute_capability=(8, 7),
    multiprocessors=16,
    l2_bytes=4 << 20,
    bus_width=256,
    shared_per_block=49152,
    shared_per_block_optin=166912,
    shared_per_multiprocessor=167936,
    integrated=True,
    ecc=False,
    memory_mib=62720,
)
KEY = EngineKey(
    library="tensorrt",
    library_version="10.3.0",
    backbone_sha256="ab" * 32,
    precision="f16",
    batch=4,
    local_dim=48,
    device=ORIN,
    onnx_sha256="cd" * 32,
    flags=("strongly-typed", "no-tf32"),
    optimization_level=3,
)
COMMAND = "edge-ad backbone build -c line.toml"


def _with(key: EngineKey, **changes: Any) -> EngineKey:
    return msgspec.structs.replace(key, **changes)


def _store(
    cache: Path, key: EngineKey = KEY, plan: bytes = b"a plan", created: str = "2026-01-01"
) -> Entry:
    record = Record(
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        layers=93,
        build_seconds=12.5,
        created=created,
        driver="560.35.05, CUDA 12.6",
        conversion_errors={"level1": 2e-4},
    )
    return store(cache, record, plan)


def test_what_was_stored_is_found_and_whole(tmp_path: Path) -> None:
    stored = _store(tmp_path / "engines")
    found = find_engine(tmp_path / "engines", KEY.wanted)
    assert found == stored
    assert read_plan(found) == b"a plan"
    assert found.directory.name == KEY.id
    assert [path.name for path in (tmp_path / "engines").iterdir()] == [KEY.id]


CHANGES: list[dict[str, Any]] = [
    {"library": "tensorrt-rtx"},
    {"library_version": "10.3.1"},
    {"backbone_sha256": "00" * 32},
    {"onnx_sha256": "00" * 32},
    {"precision": "f32"},
    {"batch": 5},
    {"local_dim": 47},
    {"flags": ("strongly-typed", "tf32")},
    {"optimization_level": 4},
]
FACTS: list[dict[str, Any]] = [
    {"name": "Orin NX"},
    {"compute_capability": (8, 6)},
    {"multiprocessors": 8},
    {"l2_bytes": 2 << 20},
    {"bus_width": 128},
    {"shared_per_block": 1},
    {"shared_per_block_optin": 1},
    {"shared_per_multiprocessor": 1},
    {"integrated": False},
    {"ecc": True},
    {"memory_mib": 31232},
]


def test_every_field_that_invalidates_an_engine_changes_its_key() -> None:
    assert {name for change in CHANGES for name in change} | {"device"} == set(
        EngineKey.__struct_fields__
    )
    assert {name for change in FACTS for name in change} == set(DeviceFacts.__struct_fields__)
    keys = [KEY, *(_with(KEY, **change) for change in CHANGES)]
    keys += [_with(KEY, device=msgspec.structs.replace(ORIN, **change)) for change in FACTS]
    assert len({key.id for key in keys}) == len(keys)
    assert _with(KEY).id == KEY.id


def test_an_identity_is_what_bundles_name() -> None:
    assert identity(KEY.wanted).key == "tensorrt-f16"
    assert identity(KEY.wanted).device == "Orin"
    assert identity(KEY.wanted).runtime == "10.3.0"
    told = identity(KEY.wanted, "ef" * 32, "560.35.05, CUDA 12.6")
    assert told.text == "10.3.0 (Orin, plan efefefefefef, driver 560.35.05, CUDA 12.6)"
    assert told != identity(KEY.wanted)


def test_the_newest_of_two_that_serve_is_taken(tmp_path: Path) -> None:
    """As after int8's ranges were set anew, or another optimisation level was tried."""
    _store(tmp_path, _with(KEY, optimization_level=5), created="2026-02-01")
    _store(tmp_path, created="2026-01-01")
    assert find_engine(tmp_path, KEY.wanted).record.key.optimization_level == 5


def _judged(entry: Entry, passed: bool) -> Entry:
    return write_check(entry, NumericCheck("560.35.05, CUDA 12.6", passed, 0.1, "2026-01-03"))


def test_the_plan_that_was_calibrated_is_preferred(tmp_path: Path) -> None:
    old = _store(tmp_path, plan=b"old", created="2026-01-01")
    new = _store(tmp_path, _with(KEY, optimization_level=5), b"new", created="2026-01-02")
    assert find_engine(tmp_path, KEY.wanted) == new
    assert find_engine(tmp_path, KEY.wanted, plan_sha256=old.record.plan_sha256) == old
    assert find_engine(tmp_path, KEY.wanted, plan_sha256="ef" * 32) == new


def test_an_engine_whose_numbers_are_off_is_taken_only_for_lack_of_another(tmp_path: Path) -> None:
    old = _store(tmp_path, plan=b"old", created="2026-01-01")
    off = _judged(_store(tmp_path, _with(KEY, flags=("weak",)), b"new", created="2026-01-02"), False)
    assert find_engine(tmp_path, KEY.wanted) == old
    assert find_engine(tmp_path, KEY.wanted, plan_sha256=off.record.plan_sha256) == old
    off = _judged(old, False)
    assert find_engine(tmp_path, KEY.wanted, plan_sha256=off.record.plan_sha256) == off
    assert off.needs_check("560.35.05, CUDA 12.6")  # and so it is refused


def test_what_cannot_be_written_is_found_before_a_build(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "engines")
    assert list((tmp_path / "new" / "engines").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"file/engines: the engine cache cannot be written: .*rights"):
        check_writable(tmp_path / "file" / "engines")


def test_storing_again_replaces(tmp_path: Path) -> None:
    _store(tmp_path)
    _store(tmp_path, plan=b"another")
    assert read_plan(find_engine(tmp_path, KEY.wanted)) == b"another"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_cache_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"no engine of backbone (ab){6} for f16, batch 4, 48 features per position",
    ) as caught:
        find_engine(tmp_path / "none", KEY.wanted, COMMAND)
    assert str(caught.value).endswith(f"give '{COMMAND}'")


@pytest.mark.parametrize("change", [{"precision": "f32"}, {"batch": 1}, {"local_dim": 0}])
def test_nothing_near_enough_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    _store(tmp_path)
    with pytest.raises(ArtifactError, match=r"but of f16 4/48 .*; give 'edge-ad backbone build -c"):
        find_engine(tmp_path, _with(KEY, **change).wanted, COMMAND)


def test_the_engine_of_another_card_is_refused_with_both(tmp_path: Path) -> None:
    _store(tmp_path)
    nx = msgspec.structs.replace(ORIN, name="Orin NX", multiprocessors=8)
    with pytest.raises(
        DeviceError,
        match=r"built on Orin \(8.7, 16 SM.*card is Orin NX \(8.7, 8 SM.*on this machine",
    ):
        find_engine(tmp_path, _with(KEY, device=nx).wanted, COMMAND)


def test_a_card_with_other_settings_is_refused_with_them(tmp_path: Path) -> None:
    _store(tmp_path)
    ecc = msgspec.structs.replace(ORIN, ecc=True)
    with pytest.raises(DeviceError, match=r"other settings: ecc False then, True now"):
        find_engine(tmp_path, _with(KEY, device=ecc).wanted)


def test_the_engine_of_another_version_is_refused_with_both(tmp_path: Path) -> None:
    _store(tmp_path)
    with pytest.raises(DeviceError, match=r"built by tensorrt 10.3.0, tensorrt 10.16.2 is installed"):
        find_engine(tmp_path, _with(KEY, library_version="10.16.2").wanted, COMMAND)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_plan_is_refused(tmp_path: Path, damage: str) -> None:
    entry = _store(tmp_path)
    if damage == "gone":
        entry.plan_path.unlink()
    else:
        entry.plan_path.write_bytes(b"a plaN" if damage == "flipped" else b"a p")
    found = find_engine(tmp_path, KEY.wanted)
    with pytest.raises(ArtifactError, match=r"engine.plan: the engine .*give 'edge-ad backbone build'"):
        read_plan(found)


def _edit(entry: Entry, **changes: Any) -> None:
    path = entry.directory / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_damaged_record_is_refused_and_named_when_it_is_needed(tmp_path: Path) -> None:
    entry = _store(tmp_path)
    (entry.directory / "engine.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"engine.json: not an engine's record"):
        read_entry(entry.directory)
    with pytest.raises(ArtifactError, match=r"no whole engine of .*engine.json: not an engine's record"):
        find_engine(tmp_path, KEY.wanted)
    _store(tmp_path, _with(KEY, onnx_sha256="ef" * 32))  # another one serves
    assert find_engine(tmp_path, KEY.wanted).record.key.onnx_sha256 == "ef" * 32


def test_a_record_that_was_edited_is_refused(tmp_path: Path) -> None:
    """As to let an engine of another card pass for this one's."""
    entry = _store(tmp_path)
    edited = msgspec.to_builtins(_with(KEY, device=msgspec.structs.replace(ORIN, name="Thor")))
    _edit(entry, key=edited)
    with pytest.raises(ArtifactError, match=r"its key's sha256 is [0-9a-f]{64}, its directory is"):
        read_entry(entry.directory)


def test_a_later_schema_is_refused_with_both(tmp_path: Path) -> None:
    entry = _store(tmp_path)
    _edit(entry, schema=2)
    with pytest.raises(ArtifactError, match=r"schema is 2, this edge_ad reads 1"):
        read_entry(entry.directory)


def test_a_cache_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """Also for those whom permissions do not stop."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    for use in (
        lambda: read_entries(blocked),
        lambda: _store(blocked),
        lambda: _store(blocked / "below"),
    ):
        with pytest.raises(DeviceError, match=r"file.*: the engine cache cannot be .*owner and rights"):
            use()


def test_a_driver_change_asks_for_the_numeric_check_again(tmp_path: Path) -> None:
    entry = _store(tmp_path)
    assert entry.needs_check("560.35.05")  # never done
    entry = write_check(entry, NumericCheck("560.35.05", True, 0.02, "2026-01-01"))
    assert not entry.needs_check("560.35.05")
    assert entry.needs_check("570.10.00")
    found = find_engine(tmp_path, KEY.wanted)
    assert found == entry
    assert read_plan(found) == b"a plan"
    failed = write_check(found, NumericCheck("570.10.00", False, 9.0, "2026-01-02"))
    assert failed.needs_check("570.10.00")


def test_timings_are_kept_apart_by_version_and_card(tmp_path: Path) -> None:
    old, new = (Library("tensorrt", None, version) for version in ("10.3.0", "10.16.2"))
    assert read_timings(tmp_path, old, ORIN) == b""
    write_timings(tmp_path, old, ORIN, b"timings")
    assert read_timings(tmp_path, old, ORIN) == b"timings"
    assert read_timings(tmp_path, new, ORIN) == b""
    assert read_timings(tmp_path, old, msgspec.structs.replace(ORIN, ecc=True)) == b""
    assert read_entries(tmp_path) == ([], [])
