"""`edge-ad resolution` as a person calls it: table, JSON, exit codes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tiny_station import ENTRY, edge_ad, write_parts, write_station

from edge_ad.calibrate import Request, calibrate
from edge_ad.cli.resolution import command
from edge_ad.config import Station
from edge_ad.resolution import request


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """Calibrated on 40 parts, with other good ones beside it."""
    directory = tmp_path_factory.mktemp("line")
    station = write_station(directory)
    write_parts(directory / "good", 40)
    write_parts(directory / "others", 12, first=100)
    (directory / "nothing").mkdir()
    write_station(directory / "new")
    calibrate(station, Request(directory=directory / "good"))
    return station


def test_table_json_and_pictures(station: Station, tmp_path: Path) -> None:
    others = Path(station.path).parent / "others"
    out = tmp_path / "out.json"
    few = ("resolution", "-c", station.path, "--from", others, "--trials", 10, "--kinds", "pit,stain")
    done = edge_ad(*few, "--contrast", 1, "--json", out, "--pictures", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 110
    for text in ("10 of 10", "at 95 %", "the defects are rendered", "1 of the view's white", "qualify"):
        assert text in done.stdout
    assert "scratch" not in done.stdout
    data = json.loads(out.read_text())
    assert (data["rendered"], data["trials"], data["target"]) == (True, 10, 0.95)
    assert [kind["kind"] for kind in data["kinds"]] == ["pit", "stain"]
    assert data["kinds"][1]["sizes"][-1] == {
        "size": 16.0, "trials": 10, "detected": 10, "faults": 0, "rate": 1.0,
        "confident": pytest.approx(0.05**0.1),
    }  # fmt: skip
    assert (tmp_path / "p" / "pit-16px.png").is_file()
    done = edge_ad(*few, "--contrast", 0.02, "--sizes", "4,8", "--json")
    assert [kind["found"] for kind in json.loads(done.stdout)["kinds"]] == [None, None]
    done = edge_ad(*few, "--contrast", 0.02, "--sizes", "4,8")
    assert "> 8 px" in done.stdout and "pit: not found at 8 px" in done.stdout


def test_help_says_the_defaults_that_hold() -> None:
    plain = request.Request(good=Path())
    options = {option.name: option for option in command.params}
    assert options["kinds"].default == ",".join(plain.kinds)
    for name in ("trials", "contrast", "seed", "bundle"):
        assert options[name].default == getattr(plain, name)
    assert ",".join(f"{size:g}" for size in request.SIZES) in str(
        options["sizes"].to_info_dict()["help"]
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--from", "none"], 4, "no such directory; give a folder"),
        (["--from", "nothing"], 4, "no images in the folder"),
        (["--from", "others", "--bundle", "nope"], 3, "no bundle here"),
        (["--from", "others", "-c", "new/line.toml"], 2, "no bundle yet to judge by; 'edge-ad"),
        (["--from", "others", "--sizes", "2,x"], 2, "--sizes: 'x' is no number; give camera pixels"),
        (["--from", "others", "--sizes", ""], 2, "--sizes: '' is no number"),
        (["--from", "others", "--sizes", "4,3"], 2, "3 comes after 4; give each size once, smallest"),
        (["--from", "others", "--sizes", "0"], 2, "0 is no size of a defect; give 1 camera pixel"),
        (["--from", "others", "--sizes", "40"], 2, "view 'top' of 64 x 48 px; give sizes up to 16"),
        (["--from", "others", "--kinds", "crack"], 2, "'crack' is no kind of defect; give some of"),
        (["--from", "others", "--trials", "0"], 2, "--trials: 0 is no number of trials; give 1"),
        (["--from", "others", "--contrast", "nan"], 2, "--contrast: nan is not over 0"),
        ([], 2, "--from"),
    ],
)  # fmt: skip
def test_wrong_use_ends_in_words(station: Station, options: list[str], code: int, message: str) -> None:
    done = subprocess.run(
        [*ENTRY, "resolution", "-c", "line.toml", *options],
        cwd=Path(station.path).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
