"""What of edge_ad's extras a package has: which may be asked for, and what is in it then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from made_up_package import MadeUp, unpack, write_program, write_wheel

from edge_ad.capture.aravis.library import PACKAGES as ARAVIS
from edge_ad.capture.gst.library import PACKAGES as GSTREAMER
from edge_ad.config.local import tomllib

ROOT = Path(__file__).resolve().parents[2]
NOT_ON_A_LINE = {"export", "evaluate", "test"}  # what networks and releases are made with


def test_each_extra_of_the_project_is_in_it_or_may_be_or_is_not_for_a_line(build: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packed = [*build.EXTRAS, *build.GPU_EXTRAS, *build.LARGE_EXTRAS]
    assert sorted([*packed, *NOT_ON_A_LINE]) == sorted(project["optional-dependencies"])


def test_what_cameras_need_of_debian_is_said_as_their_errors_say_it() -> None:
    said = (ROOT / "deploy" / "package" / "README.md").read_text()
    rows = dict(line.split(" | ", 1) for line in said.splitlines() if line.startswith("| `"))
    assert rows["| `genicam://`"].startswith(f"`{ARAVIS}`")
    assert rows["| `gst://`"].startswith(f"`{GSTREAMER}`")


def test_an_extra_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    program = str(ROOT / "deploy" / "package" / "build.py")
    done = subprocess.run(
        [sys.executable, program, "--out", str(tmp_path / "dist"), "--extra=basler", "--extra=baslr"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "argument --extra: 'baslr' is none; there are basler and torch." in done.stderr
    assert not (tmp_path / "dist").exists()


def test_a_wheel_without_the_extra_is_refused(build: ModuleType, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "edge_ad", "0.9", "Provides-Extra: gpio")
    build.check_provided(wheel, ("gpio",))
    with pytest.raises(ValueError, match=r"edge_ad-0\.9-py3-none-any\.whl has no extra basler"):
        build.check_provided(wheel, ("gpio", "basler"))


def test_a_package_with_basler_has_pylon_and_takes_the_place_of_one_without(
    build: ModuleType, pip_wheel: Path, made_up: MadeUp, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    write_program(wheels, "1.0", 'Requires-Dist: pypylon; extra == "basler"', "Provides-Extra: basler")
    plain = unpack(build.assemble(wheels, pip_wheel, (), tmp_path), tmp_path)
    write_wheel(wheels, "pypylon", "26.9", files={"pypylon.py": "SAYS = 'pylon'\n"})
    archive = build.assemble(wheels, pip_wheel, ("basler",), tmp_path)
    assert archive.name == f"{plain.name}-basler.tar.gz"  # beside the other one
    package = unpack(archive, tmp_path)
    assert [line.split(" --hash")[0] for line in _lines(package / "requirements.txt")] == [
        "edge-ad[basler]==1.0", "pypylon==26.9",
    ]  # fmt: skip
    bill = json.loads((package / "sbom.cdx.json").read_text())
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert needs["pkg:pypi/edge-ad@1.0"] == ["pkg:pypi/pypylon@26.9"]
    assert [one["name"] for one in bill["components"]] == ["pypylon"]

    line = made_up.station()
    assert made_up.install(plain, "install").returncode == 0
    said = made_up.install(package, "install").stderr
    assert "is another build of 1.0" in said and "install.sh uninstall" in said
    assert made_up.install(made_up.prefix, "uninstall").returncode == 0
    assert made_up.install(package, "install").returncode == 0
    assert (made_up.in_use, line.exists()) == ("1.0", True)
    python = made_up.prefix / "current" / "bin" / "python"
    said = subprocess.check_output([python, "-c", "import pypylon; print(pypylon.SAYS)"], text=True)
    assert said == "pylon\n"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
