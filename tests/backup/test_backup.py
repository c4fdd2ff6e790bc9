"""A station in one file, and out of it again: the same, or nothing at all."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from daemon_line import wait_for
from made_up_line import make_line, tree, verdicts

from edge_ad import backup
from edge_ad.audit import read_events
from edge_ad.backup import restore_backup, write_backup
from edge_ad.bundle import candidate_path, current_path, open_bundle, previous_path, shadow
from edge_ad.cli.main import cli
from edge_ad.config import Station, load_station
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.lock import StateLock
from edge_ad.errors import (
    ArtifactError,
    CheckFailed,
    ConfigError,
    DeliveryError,
    DeviceError,
    EdgeAdError,
)
from edge_ad.evidence.find import Query, find_parts

COMMAND = [sys.executable, "-c", "from edge_ad.cli.main import main; main()"]
NOT_TAKEN = ("state/engines", "state/calibration/default/work-1", "state/daemon.lock", "unrelated")
# SQLite's own copy has the same rows, not the same bytes.
DATABASES = ("state/outbox.db", "gate-state/station.db")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Station:
    return make_line(tmp_path_factory.mktemp("line") / "here")


@pytest.fixture(scope="module")
def archive(line: Station) -> Path:
    """Of the whole line, without keys."""
    return write_backup(line, Path(line.path).parent.parent / "line1.tar.gz").path


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.zst"])
def test_a_station_comes_out_as_it_went_in(line: Station, tmp_path: Path, suffix: str) -> None:
    written = write_backup(line, tmp_path / f"line1.{suffix}", keys=True)
    assert written.evicted == 0 and written.manifest.left_out == []
    assert written.path.stat().st_mode & 0o077 == 0
    restored = restore_backup(written.path, tmp_path / "there")
    here, there = Path(line.path).parent, tmp_path / "there"
    expected = tree(here, (*NOT_TAKEN, *DATABASES))
    expected.pop("keys/station.key")  # nothing names it
    assert tree(there, DATABASES) == expected
    assert "keys/station.key_secret" in expected and expected["keys/station.key_secret"].endswith(" 600")
    assert verdicts(there / "state") == verdicts(here / "state") == [("e1", n) for n in range(1, 6)]
    assert (there / "gate-state" / "station.db").is_file()
    station = restored.station
    assert (station.path, restored.missing) == (str(there / "line.toml"), ())
    current, previous = (f(station.state_path, "default") for f in (current_path, previous_path))
    assert current is not None and previous is not None
    assert (current.name, previous.name) == ("b2", "b1")
    open_bundle(current).backbone()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"line1.{suffix}", "there"]


def test_a_stray_file_beside_the_evidence_costs_no_backup(tmp_path: Path) -> None:
    line = make_line(tmp_path / "here")
    (line.state_path / "evidence" / "default" / "000017-LOT.zip").write_bytes(b"of a person")
    written = write_backup(line, tmp_path / "b.tar.gz")
    assert not [name for name in written.manifest.files if name.endswith(".zip")]
    assert "state/evidence/last" in written.manifest.files


def test_keys_are_left_out_wherever_they_lie(tmp_path: Path) -> None:
    line = make_line(tmp_path / "here")
    keys = line.state_path / "keys"
    shutil.copytree(tmp_path / "here" / "keys", keys)
    file = Path(line.path)
    file.write_text(
        file.read_text().replace('"keys/station.key_secret"', '"state/keys/station.key_secret"')
    )
    station = load_station(file)
    assert station.curve_secret == keys / "station.key_secret"
    without = write_backup(station, tmp_path / "without.tar.gz").manifest
    assert not [name for name in without.files if "key_secret" in name]
    assert [line for line in without.left_out if "keys are taken only with --keys" in line]
    assert (
        "state/keys/station.key_secret"
        in write_backup(station, tmp_path / "with.tar.gz", keys=True).manifest.files
    )


def test_keys_and_evidence_are_left_out_and_that_is_said(line: Station, tmp_path: Path) -> None:
    written = write_backup(line, tmp_path / "b.tar.gz", evidence=False)
    names = set(written.manifest.files)
    assert not [name for name in names if "key" in name]
    # Its last number stays, so that none is given twice.
    assert [name for name in names if "evidence" in name] == ["state/evidence/last"]
    assert [line.split(":")[0] for line in written.manifest.left_out] == [
        "curve.secret",
        "curve.clients",
    ]
    assert list(restore_backup(written.path, tmp_path / "there").missing) == written.manifest.left_out


def test_what_lies_apart_from_the_station_file_is_named(line: Station, tmp_path: Path) -> None:
    text = Path(line.path).read_text().replace('"net"', f'"{Path(line.path).parent / "net"}"')
    other = tmp_path / "station" / "line.toml"
    other.parent.mkdir()
    other.write_text(text.replace('"state"', f'"{line.state_path}"'))
    written = write_backup(load_station(other), tmp_path / "b.tar.gz")
    assert "lies apart from the station file" in written.manifest.left_out[0]
    assert "drawings/zones.png is not there" in written.manifest.left_out[1]
    # Its state is not below the station file: that takes both places, and those that the file says.
    with pytest.raises(ConfigError, match=r"is not below .*; give that as the directory"):
        restore_backup(written.path, tmp_path / "there")
    with pytest.raises(ConfigError, match=r"says state_dir = .* not .*/elsewhere; give"):
        restore_backup(written.path, tmp_path / "elsewhere", tmp_path / "there" / "line.toml")
    assert not (tmp_path / "there").exists() and not (tmp_path / "elsewhere").exists()


def test_state_and_station_file_in_two_places(tmp_path: Path) -> None:
    state = tmp_path / "var" / "line1"
    line = make_line(tmp_path / "etc", state=str(state))
    before = tree(state, ("engines", "calibration/default/work-1", "daemon.lock", "outbox.db"))
    archive = write_backup(line, tmp_path / "b.tar.zst").path
    state.rename(tmp_path / "old")
    state.mkdir(0o750)  # as systemd or `init --service` makes it
    mask = os.umask(0o077)
    try:
        restored = restore_backup(archive, state, tmp_path / "etc2" / "station.toml")
    finally:
        os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in state.rglob("*") if path.is_dir()} == {0o755}
    assert tree(state, ("outbox.db",)) == before
    assert restored.station.path == str(tmp_path / "etc2" / "station.toml")
    assert state.stat().st_mode & 0o777 == 0o750
    assert verdicts(state) == verdicts(tmp_path / "old")
    # A second place that is taken leaves the first one as it was.
    with pytest.raises(ConfigError, match="not empty, and nothing is ever overwritten"):
        restore_backup(archive, tmp_path / "state2", tmp_path / "etc2" / "line.toml")
    assert not (tmp_path / "state2").exists()


def scores(state: Path) -> list[object]:
    return [one.row for one in find_parts(state, Query(), lambda line: None)]


def test_while_the_daemon_runs_and_on_to_another_pc(tmp_path: Path) -> None:
    line = make_line(tmp_path / "here")
    text = Path(line.path).read_text()
    for table, following in (("[[zone]]", "[engine]"), ("[curve]", "[scores]")):  # not of its bundles
        text = text[: text.index(table)] + text[text.index(following) :]
    Path(line.path).write_text(text)
    with _Daemon(load_station(line.path)) as daemon:
        daemon.wait(lambda s: s["parts"] > 10)
        current = current_path(line.state_path, "default")
        assert current is not None
        shadow(line.state_path, "default", current.name)
        wait_for(lambda: len(scores(line.state_path)) > 10, 30)
        done = _run("backup", "-c", line.path, tmp_path / "b.tar.zst")
        assert done.returncode == 0, done.stderr
        parts = daemon.wait(lambda s: s["parts"] > 30)["parts"]
        etc = tmp_path / "etc" / "line.toml"
        done = _run("restore", tmp_path / "b.tar.zst", line.state_path, "-c", etc)
        assert done.returncode == 5 and "belongs to the running daemon" in done.stderr
    done = _run("restore", tmp_path / "b.tar.zst", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    assert "edge-ad check -c" in done.stdout
    before, after = verdicts(tmp_path / "there" / "state"), verdicts(line.state_path)
    assert 10 < len(before) < len(after) and before == after[: len(before)]
    assert parts <= len(after)
    kept, now = scores(tmp_path / "there" / "state"), scores(line.state_path)
    assert 10 < len(kept) <= len(now) and kept == now[: len(kept)]
    candidate = candidate_path(tmp_path / "there" / "state", "default")
    assert candidate is not None and candidate.name == current.name
    assert read_events(tmp_path / "there" / "state") == read_events(line.state_path)
    with _Daemon(load_station(tmp_path / "there" / "line.toml")) as spare:
        status = spare.wait(lambda s: s["parts"] > 5)
        assert status["state"] == "RUNNING"
        waiting = status["verdicts"]["consumers"]["gate"]["depth"]
        assert waiting > len(before)  # nothing that waited is lost
    entries = [p.name for p in (tmp_path / "there" / "state" / "evidence" / "default").iterdir()]
    numbers = sorted(int(name.split("-")[0]) for name in entries)
    assert len(set(numbers)) == len(numbers) > 2


def test_evidence_that_goes_for_room_meanwhile_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line(tmp_path / "here")
    entry = line.state_path / "evidence" / "default" / "000001-P1"
    walk = backup.write.walk

    def goes(directory: Path, name: str) -> list[object]:
        items = list(walk(directory, name))
        if directory == entry:
            for item in items[1:]:
                item.path.unlink()
        return items

    monkeypatch.setattr(backup.write, "walk", goes)
    written = write_backup(line, tmp_path / "b.tar.gz")
    assert written.evicted == 1
    kept = {name.split("/")[3] for name in written.manifest.files if "evidence/default" in name}
    assert kept == {"000002-P2"}
    restore_backup(written.path, tmp_path / "there")


def test_a_backup_that_cannot_be_whole_is_none(line: Station, tmp_path: Path) -> None:
    state, out = line.state_path, tmp_path / "b.tar.gz"
    lock = state / "calibration" / "default" / ".lock"
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CheckFailed, match="a calibration of this product is running"):
            write_backup(line, out)
    link, base = state / "calibration" / "more", state / "calibration" / "more.db"
    link.symlink_to("/etc")
    with pytest.raises(CheckFailed, match="is a link, which a backup cannot keep"):
        write_backup(line, out)
    link.unlink()
    base.write_bytes(b"no database" * 99)
    with pytest.raises(DeviceError, match=r"cannot be copied .*not a database"):
        write_backup(line, out)
    base.unlink()
    for name, message in (("b.zip", "end it in .tar.zst or .tar.gz"), ("", "exists already")):
        with pytest.raises(ConfigError, match=message):
            write_backup(line, tmp_path / name)
    with pytest.raises(ConfigError, match="lies in the state directory"):
        write_backup(line, state / "b.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_no_daemon_disturbed(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "file").touch()
    with pytest.raises(ConfigError, match="not empty, and nothing is ever overwritten"):
        restore_backup(archive, target)
    lock = StateLock(tmp_path / "state")
    with pytest.raises(DeliveryError, match="belongs to the running daemon with pid"):
        restore_backup(archive, tmp_path / "state", tmp_path / "etc" / "line.toml")
    lock.release()
    with pytest.raises(ConfigError, match="is no directory"):
        restore_backup(archive, target / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["daemon.lock", "file", "state", "there"]


def test_what_a_killed_restore_left_is_removed(archive: Path, tmp_path: Path) -> None:
    left = tmp_path / ".there.restore-abc"
    (left / "config").mkdir(parents=True)
    restore_backup(archive, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_truncated_or_flipped_archive_is_refused_and_leaves_nothing(
    archive: Path, tmp_path: Path
) -> None:
    whole = archive.read_bytes()
    restore_backup(archive, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    damaged = tmp_path / "damaged.tar.gz"
    refused: set[bytes] = set()
    cuts = [whole[: len(whole) * n // 12] for n in range(12)] + [whole[:-1], whole[:-9]]
    flips = []
    for n in range(40):
        data = bytearray(whole)
        data[len(whole) * n // 40] ^= 1 << n % 8
        flips.append(bytes(data))
    for data in cuts + flips:
        damaged.write_bytes(data)
        try:
            restore_backup(damaged, tmp_path / "there")
        except EdgeAdError as error:
            assert isinstance(error, ArtifactError) or "is no backup" in str(error)
            assert not (tmp_path / "there").exists()
            refused.add(data)
        else:  # a bit that says nothing: the time in gzip's header, zeros copied from other zeros
            assert tree(tmp_path / "there") == expected
            shutil.rmtree(tmp_path / "there")
    assert refused.issuperset(cuts) and len(refused.intersection(flips)) > 30
    assert not list(tmp_path.glob(".*"))


def _repacked(
    archive: Path, out: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]
) -> Path:
    """The archive with other members, as somebody with bad intentions would write it."""
    with tarfile.open(archive) as tar:
        members = [(m, tar.extractfile(m).read() if m.isreg() else b"") for m in tar]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(out, "w:gz") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out


def _file(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_file("../outside"), "no name of a file in a backup"),
        (_file("/etc/outside"), "no name of a file in a backup"),
        (_file("state/../../outside"), "no name of a file in a backup"),
        (_file("other/outside"), "no name of a file in a backup"),
        (_file("state/more"), "not there"),  # in no manifest
        (_file("config/line.toml"), "comes twice"),
        (_file("config/line.toml/below"), "is in another's place"),
        (_link("state/bundles/default/current", "b1"), "comes twice"),
        (_link("state/bundles/other/current", "../../../../../etc"), "a link to '../../../../../etc'"),
        (_link("state/bundles/other/current", "/etc"), "a link to '/etc'"),
        (_link("config/out", "/etc"), "a link to '/etc'"),
        (_link("state/hard", "config/line.toml", tarfile.LNKTYPE), "is no plain file"),
        (_link("state/pipe", "", tarfile.FIFOTYPE), "is no plain file"),
        (_link("state/disk", "", tarfile.BLKTYPE), "is no plain file"),
        (_link("state/folder", "", tarfile.DIRTYPE), "is no plain file"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else None,
)
def test_a_hostile_archive_writes_nothing(
    archive: Path, tmp_path: Path, member: tarfile.TarInfo, message: str
) -> None:
    bad = _repacked(
        archive, tmp_path / "bad.tar.gz", lambda members: members.insert(len(members) - 1, (member, b""))
    )
    with pytest.raises(ArtifactError, match=message):
        restore_backup(bad, tmp_path / "below" / "there")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.tar.gz", "below"]


def test_a_manifest_that_says_otherwise_is_refused(archive: Path, tmp_path: Path) -> None:
    def alter(key: str, value: object) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
        def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
            info, data = members[-1]
            members[-1] = info, json.dumps(json.loads(data) | {key: value}).encode()

        return change

    def damage(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        at = next(n for n, (info, _) in enumerate(members) if info.name.endswith("gaussian.safetensors"))
        members[at] = members[at][0], members[at][1][:-1] + b"x"

    for change, message in (
        (alter("schema", 2), "restore it with the edge_ad that wrote it"),
        (alter("station_file", "../line.toml"), "restore it with"),
        (alter("station_file", "other.toml"), "has no other.toml"),
        (alter("links", {}), "manifest.json says {}"),
        (alter("files", {}), "manifest.json says not there"),
        (damage, r"gaussian.safetensors is \d+ bytes with sha256"),
        (lambda members: members.pop(), "it is truncated"),
        (lambda members: members.append((_file("state/late"), b"")), "after the end"),
    ):
        bad = _repacked(archive, tmp_path / "bad.tar.gz", change)
        with pytest.raises(ArtifactError, match=message):
            restore_backup(bad, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_a_disk_without_room_is_said_before_it_is_full(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup.unpack, "_RESERVE", 1 << 60)
    with pytest.raises(DeviceError, match="free some space"):
        restore_backup(archive, tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


def test_the_room_is_that_of_the_disk_that_a_file_goes_to(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/etc may be small where the state is not, and the other way round."""

    def usage(place: Path) -> SimpleNamespace:
        return SimpleNamespace(free=0 if place == tmp_path / "etc" else 10**12)

    monkeypatch.setattr(backup.unpack.shutil, "disk_usage", usage)
    with pytest.raises(DeviceError, match=f"{tmp_path / 'etc'}.* 0 are free"):
        backup.unpack.unpack(archive, {"config": tmp_path / "etc", "state": tmp_path / "big"})
    monkeypatch.setattr(
        backup.unpack.shutil,
        "disk_usage",
        lambda place: SimpleNamespace(free=0 if place == tmp_path / "small" else 10**12),
    )
    with pytest.raises(DeviceError, match=f"{tmp_path / 'small'}.* 0 are free"):
        backup.unpack.unpack(archive, {"config": tmp_path / "c", "state": tmp_path / "small"})


def test_what_the_command_line_asks_for(archive: Path) -> None:
    for arguments, message in (
        (["restore", str(archive)], "give the DIRECTORY"),
        (["restore", str(archive), "x", "--service", "line1"], "says where everything goes"),
        (["restore", str(archive), "--service", "../x"], "--service ../x"),
    ):
        with pytest.raises(ConfigError, match=message):
            cli.main(arguments, standalone_mode=False)


class _Daemon:
    """`edge-ad run` as a process."""

    def __init__(self, station: Station) -> None:
        self._control = ControlClient(station.control_endpoint, timeout_s=5)
        self._process = subprocess.Popen(
            [*COMMAND, "run", "-c", station.path],
            stderr=subprocess.DEVNULL,
            cwd=Path(station.path).parent,
        )

    def __enter__(self) -> _Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.terminate()
        assert self._process.wait(30) == 0

    def wait(self, condition: Callable[[dict[str, object]], object]) -> dict[str, object]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                status = self._control.request("status", timeout_s=1.0)
            except DeliveryError:
                assert self._process.poll() is None
                continue
            if "parts" in status and condition(status):
                return status
            time.sleep(0.05)
        raise AssertionError("it did not happen")


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
