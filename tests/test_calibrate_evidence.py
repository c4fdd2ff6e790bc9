"""From a part that the daemon rejected to a fit that knows it: who declared it good, why, what for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import pytest
from tiny_station import active_bundle, edge_ad, part_image, write_parts, write_station

from edge_ad.bundle import open_bundle
from edge_ad.bundle.describe import bundle_lines
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibration_set import CalibrationSet, load_set, set_directory
from edge_ad.config import Station
from edge_ad.engines import EngineChoice
from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.evidence.entry import EntryRecord, read_entries
from edge_ad.frame import Image
from edge_ad.inspector import open_inspector

KEY = "openvino-f32"
PARTS = 40
DECIDED = {"person": "anna", "reason": "a batch with a stain"}


def stained(number: int) -> Image:
    image = part_image(600 + number)
    image[4:20, 4:24] = 250
    return image


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A station with a bundle whose daemon has seen four stained parts, an unreadable and an ordinary
    one; tests that change something take a copy."""
    directory = tmp_path_factory.mktemp("seen")
    write_parts(directory / "good", PARTS)
    station = write_station(directory)
    calibrate(station, Request(directory=directory / "good"))
    write_parts(directory / "line", 1, first=2000)
    for i, name in enumerate(("s0", "s1", "s2", "s3")):
        assert cv2.imwrite(str(directory / "line" / f"{name}.png"), stained(i))
    (directory / "line" / "torn.png").write_bytes(b"no picture")
    done = edge_ad("run", "-c", station.path)
    assert done.returncode == 0, done.stderr
    return station


@pytest.fixture
def station(seen: Station, tmp_path: Path) -> Station:
    sockets = shutil.ignore_patterns("*.sock")
    shutil.copytree(seen.state_path, tmp_path / "state", symlinks=True, ignore=sockets)
    return write_station(tmp_path)


def kept_set(station: Station) -> CalibrationSet:
    sha256 = open_bundle(active_bundle(station)).manifest.calibration_set.sha256
    return load_set(set_directory(station.state_path, station.product), sha256)


def score(station: Station, image: Image) -> tuple[float, float]:
    inspector = open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))
    verdict = inspector.inspect(image)
    inspector.close()
    return verdict.score, verdict.threshold


def change_record(station: Station, number: int, **changes: object) -> None:
    """Let an entry be of another kind."""
    (path,) = (station.state_path / "evidence" / "disc").glob(f"{number:06d}-*")
    record = msgspec.json.decode((path / "verdict.json").read_bytes(), type=EntryRecord)
    record = msgspec.structs.replace(record, **changes)
    (path / "verdict.json").write_bytes(msgspec.json.encode(record))


def test_what_was_rejected_is_learnt_and_told_apart(station: Station) -> None:
    listed = edge_ad("evidence", "list", "-c", station.path, "--json").stdout.splitlines()
    lines = [json.loads(line) for line in listed]
    assert [(one["number"], one["key"], one["verdict"]) for one in lines] == [
        (number, f"s{number - 1}.png", "REJECT") for number in (1, 2, 3, 4)
    ]
    # What is learnt is the lossless frame, not the picture to look at beside it.
    assert all((Path(one["path"]) / "top.overlay.jpg").is_file() for one in lines)
    before = [score(station, stained(i)) for i in range(4)]
    assert all(one > limit for one, limit in before)
    done = edge_ad(
        "calibrate", "-c", station.path, "--from-evidence", "1, s1.png", "--from-evidence",
        "000003-s2.png", "--person", "anna", "--reason", "a batch with a stain",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    section = open_bundle(active_bundle(station)).section(KEY)
    assert (section.promise.parts, section.promise.declared) == (PARTS, 3)
    ids = [f"{PARTS + 1 + i:06d}" for i in range(3)]
    assert list(section.declared) == ids
    for i, id_ in enumerate(ids):
        now, limit = score(station, stained(i))
        assert now / limit < before[i][0] / before[i][1]
        assert section.declared[id_].score == pytest.approx(now, rel=1e-3)
    for record, number in zip(kept_set(station).records[PARTS:], (1, 2, 3), strict=True):
        assert (record.person, record.reason, record.origin) == (
            "anna",
            "a batch with a stain",
            "evidence",
        )
        assert record.source == f"evidence {number} s{number - 1}.png"
        assert record.files["top"].rule == "auto8"
        frames = set_directory(station.state_path, station.product) / "frames"
        learnt = cv2.imread(str(frames / record.files["top"].name), cv2.IMREAD_UNCHANGED)
        assert (learnt == stained(number - 1)).all()
    flagged = "3 more parts were declared good by a person: fitted, but no random sample, so not counted"
    report = (active_bundle(station) / "report.html").read_text()
    for words in (done.stdout, edge_ad("bundle", "show", "-c", station.path).stdout, report):
        assert flagged in words
        assert f"{PARTS} parts: " in words
        assert "3 parts declared good by a person" in words
    assert "Parts declared good by a person" in report
    # They stay where they are.
    assert len(read_entries(station.state_path, "disc")[0]) == 4


def test_a_part_that_is_still_rejected_is_named_with_the_remedy(station: Station) -> None:
    result = calibrate(station, Request(from_evidence=("1",), **DECIDED))  # type: ignore[arg-type]
    (id_,) = result.manifest.engines[KEY].declared
    section = result.manifest.engines[KEY]
    section = msgspec.structs.replace(section, threshold=0.5 * section.declared[id_].score)
    manifest = msgspec.structs.replace(result.manifest, engines={KEY: section})
    text = "\n".join(replace(result, manifest=manifest).summary(5))
    assert "1 of them still above the threshold, such a part would be rejected again" in text
    assert f"{id_} (2 times)" in text
    assert "--from-evidence IDS" in text and "--drop IDS" in text


def test_a_refit_keeps_the_flag_and_a_drop_takes_it_out(station: Station) -> None:
    calibrate(station, Request(from_evidence=("1", "2"), **DECIDED))  # type: ignore[arg-type]
    first = open_bundle(active_bundle(station)).section(KEY)
    again = calibrate(station, Request(refit=True)).manifest.engines[KEY]
    assert (again.threshold, again.promise) == (first.threshold, first.promise)
    assert again.declared == first.declared
    drop, add = (f"{PARTS + 1}",), ("3",)
    both = calibrate(station, Request(drop=drop, from_evidence=add, **DECIDED))  # type: ignore[arg-type]
    section = both.manifest.engines[KEY]
    assert sorted(section.declared) == [f"{PARTS + 2:06d}", f"{PARTS + 3:06d}"]
    assert both.manifest.counts["declared"] == 2
    assert section.promise.parts == PARTS


def test_more_parts_of_the_line_count_beside_them(station: Station, tmp_path: Path) -> None:
    calibrate(station, Request(from_evidence=("1",), **DECIDED))  # type: ignore[arg-type]
    write_parts(tmp_path / "more", 5, first=3000)
    section = calibrate(station, Request(add=tmp_path / "more")).manifest.engines[KEY]
    assert (section.promise.parts, section.promise.declared) == (PARTS + 5, 1)


def test_a_part_that_is_kept_already_is_a_duplicate(station: Station) -> None:
    calibrate(station, Request(from_evidence=("1",), **DECIDED))  # type: ignore[arg-type]
    with pytest.raises(
        CheckFailed, match=r"none of the 1 parts .*duplicate.*same picture as evidence 1 s0"
    ):
        calibrate(station, Request(from_evidence=("s0.png",), **DECIDED))  # type: ignore[arg-type]
    result = calibrate(station, Request(from_evidence=("1", "2"), **DECIDED))  # type: ignore[arg-type]
    assert [(one.source, one.kind) for one in result.skipped] == [("evidence 1 s0.png", "duplicate")]


def test_without_a_reason_nothing_is_declared(station: Station) -> None:
    before = active_bundle(station)
    for reason in ([], ["--reason", "  "]):
        done = edge_ad("calibrate", "-c", station.path, "--from-evidence", "1", *reason)
        assert done.returncode == 2
        assert "--from-evidence" in done.stderr and "--reason TEXT" in done.stderr
    assert active_bundle(station) == before


def test_ids_that_cannot_be_told_are_refused(station: Station) -> None:
    change_record(
        station, 2, header=read_entries(station.state_path, "disc")[0][0].record.header
    )  # two parts called s0.png
    command = ("calibrate", "-c", station.path, "--reason", "x", "--from-evidence")
    done = edge_ad(*command, "s0.png")
    assert (done.returncode, "names the entries 1, 2" in done.stderr) == (2, True)
    done = edge_ad(*command, "3,s9.png")
    assert done.returncode == 2
    assert "'s9.png' is neither" in done.stderr and "edge-ad evidence list -c" in done.stderr
    done = edge_ad(*command, " , ")
    assert (done.returncode, "names no part" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "other",
    [{"directory": Path("x")}, {"parts": 3}, {"add": Path("x")}],
    ids=["--from", "--parts", "--add"],
)
def test_one_way_of_adding_at_a_time(other: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="calibrate: "):
        Request(from_evidence=("1",), **DECIDED, **other)  # type: ignore[arg-type]


def test_a_product_without_a_bundle_has_nothing_to_add_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no bundle yet"):
        calibrate(write_station(tmp_path), Request(from_evidence=("1",), **DECIDED))  # type: ignore[arg-type]


def test_an_entry_of_another_kind_is_refused_naming_both(station: Station) -> None:
    (entry, *_), _ = read_entries(station.state_path, "disc")
    picture = entry.record.pictures["top"]
    rule = msgspec.structs.replace(picture, pixel_rule="bayerrg8")
    colour = msgspec.structs.replace(picture, shape=(48, 64, 3))
    cases = {
        r"camera 'top' was made with pixel rule 'bayerrg8', .*line.toml asks for 'auto8'": {"top": rule},
        r"camera 'top' has 3 channel\(s\), the kept parts have 1": {"top": colour},
        r"is of cameras \['side'\], .*line.toml has \['top'\]": {"side": picture},
        r"has no picture of camera 'top' \(REJECT score\), a part needs one of each": {},
    }
    for message, pictures in cases.items():
        change_record(station, 1, pictures=pictures)
        with pytest.raises(ConfigError, match=rf"entry 1 \(part s0.png\): .*{message}"):
            calibrate(station, Request(from_evidence=("1",), **DECIDED))  # type: ignore[arg-type]


def test_a_frame_of_another_size_is_refused_where_sizes_are_fixed(tmp_path: Path) -> None:
    station = write_station(tmp_path, extra='frame_size = "fixed"')
    write_parts(tmp_path / "good", PARTS)
    calibrate(station, Request(directory=tmp_path / "good"))
    (tmp_path / "line").mkdir()
    assert cv2.imwrite(str(tmp_path / "line" / "wide.png"), part_image(1, (48, 80)))
    assert cv2.imwrite(str(tmp_path / "line" / "stained.png"), stained(0))
    assert edge_ad("run", "-c", station.path).returncode == 0
    entries, _ = read_entries(station.state_path, "disc")
    assert {entry.key: entry.verdict for entry in entries} == {
        "stained.png": "REJECT score", "wide.png": "FAULT frame_size",
    }  # fmt: skip
    message = r"has 80 x 48 px of 1 channel\(s\), the kept parts have 64 x 48 px of 1"
    with pytest.raises(ConfigError, match=message):
        calibrate(station, Request(from_evidence=("wide.png",), **DECIDED))  # type: ignore[arg-type]


def test_two_cameras(tmp_path: Path) -> None:
    for side, turned in (("top", 0), ("side", 500)):
        (tmp_path / "good" / side).mkdir(parents=True)
        (tmp_path / "line" / side).mkdir(parents=True)
        for i in range(PARTS):
            assert cv2.imwrite(str(tmp_path / "good" / side / f"{i:02d}.png"), part_image(turned + i))
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "line" / "top" / name), part_image(1000 + ord(name[0])))
        cv2.imwrite(str(tmp_path / "line" / "side" / name), stained(ord(name[0])))
    (tmp_path / "line" / "side" / "b.png").write_bytes(b"torn")
    other = f'[[camera]]\nname = "side"\nuri = "folder://{tmp_path / "line" / "side"}"\n'
    station = write_station(tmp_path, f"folder://{tmp_path / 'line' / 'top'}", other)
    calibrate(station, Request(directory=tmp_path / "good"))
    done = edge_ad("run", "-c", station.path)
    assert done.returncode == 0, done.stderr
    entries = {entry.key: entry for entry in read_entries(station.state_path, "disc")[0]}
    assert sorted(entries["a.png"].record.pictures) == ["side", "top"]
    assert entries["b.png"].verdict == "FAULT unreadable"
    with pytest.raises(ConfigError, match=r"has no picture of camera 'side' \(FAULT unreadable\)"):
        calibrate(station, Request(from_evidence=("b.png",), **DECIDED))  # type: ignore[arg-type]
    result = calibrate(station, Request(from_evidence=("a.png",), **DECIDED))  # type: ignore[arg-type]
    (record,) = [record for record in kept_set(station).records if record.origin]
    assert sorted(record.files) == ["side", "top"]
    assert result.manifest.engines[KEY].promise.declared == 1


def test_the_show_of_a_bundle_without_them_says_nothing_of_them(seen: Station) -> None:
    assert not [line for line in bundle_lines(open_bundle(active_bundle(seen))) if "declared" in line]
