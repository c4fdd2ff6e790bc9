"""The offline wheelhouse: what it asks for and refuses; (slow) that it installs without a compiler."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from stub_driver import asked_for, pycuda_module, stub_driver

from edge_ad.cuda.binaries import CUDA_12, CUDA_13
from edge_ad.cuda.driver import cuda_version
from edge_ad.cuda.nvrtc import PACKAGES
from edge_ad.cuda.sources import SOURCES

WHEELHOUSE = Path(__file__).resolve().parents[2] / "deploy" / "wheelhouse"
IMPORT = """
import pycuda.driver
assert pycuda.driver.get_version() == (12, 2, 0), pycuda.driver.get_version()
try:
    pycuda.driver.init()
except pycuda.driver.LogicError as error:
    assert str(error) == "cuInit failed: stub", error
else:
    raise AssertionError("a stub initialised")
"""
INSTALLED = """
from edge_ad.cuda.binaries import kernel_image
from edge_ad.cuda.fatbin import read_fatbin
from edge_ad.cuda.sources import SOURCES
for source in SOURCES:
    print(source.name, [len(read_fatbin(kernel_image(source.name, driver))) for driver in (12020,
    13000)])
from cuda.bindings import driver
from edge_ad.backbone.spec import load_backbone
from edge_ad.backbone.tensorrt.make import Request, convert
from edge_ad.config import EMBEDDED_BACKBONE
assert convert(Request(load_backbone(EMBEDDED_BACKBONE), "f16", 1, 48)).onnx
for name in ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"):
    assert callable(getattr(driver, name)), name
"""


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script."""
    monkeypatch.syspath_prepend(str(WHEELHOUSE))
    import make

    return make


def packages(name: str) -> dict[str, str]:
    """Name and version of each requirement of a file."""
    text = (WHEELHOUSE / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)[^=\n]*==(\S+)", text, re.MULTILINE))


def test_the_compilers_are_those_that_the_build_looks_for() -> None:
    wanted = packages("compilers.txt")
    assert wanted.pop("cuda-toolkit") == f"{cuda_version(CUDA_13.driver)}.*"
    assert wanted == dict(package.split("==") for package in PACKAGES)


def test_pycuda_is_built_against_the_oldest_driver_that_is_served() -> None:
    for version in packages("pycuda_headers.txt").values():
        assert version.startswith(cuda_version(CUDA_12.driver) + ".")


def test_the_installed_pycuda_asks_for_functions_of_cuda_12(tmp_path: Path) -> None:
    module = pycuda_module()
    if module is None:
        pytest.skip("no pycuda; deploy/wheelhouse/pycuda_wheel.py builds its wheel")
    functions = asked_for(module)
    assert {"cuCtxCreate_v2", "cuDevicePrimaryCtxRetain", "cuLaunchKernel"} <= functions
    assert not {name for name in functions if name.startswith("cuCtxCreate_v") and name[-1] > "2"}
    subprocess.run([sys.executable, "-c", IMPORT], env=stub_driver(module, tmp_path), check=True)


def test_the_constraints_fit_the_pytorch_that_they_let_in() -> None:
    """The installed one is kept out, or its wish for cuda.bindings is granted."""
    lines = (WHEELHOUSE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    asked = [Requirement(line) for line in lines if not line.startswith("#")]
    allowed = {one.name: one.specifier for one in asked}
    assert set(allowed) == {"cuda-bindings", "torch"}
    wishes = [Requirement(text) for text in metadata.requires("torch") or ()]
    bindings = [one.specifier for one in wishes if one.name == "cuda-bindings"]
    releases = ("12.9.4", "13.0.3", "13.5.0")
    granted = all(
        any(version in wish and version in allowed["cuda-bindings"] for version in releases)
        for wish in bindings
    )
    installed = Version(metadata.version("torch")).base_version
    assert granted or installed not in allowed["torch"]
    assert "2.10.0" in allowed["torch"]  # of CUDA 12


def test_requirements_have_every_wheel_s_hash(make: ModuleType, tmp_path: Path) -> None:
    for name in ("edge_ad-0.1.0-py3-none-any.whl", "cuda_bindings-12.9.9-cp311-cp311-linux_x86_64.whl"):
        (tmp_path / name).write_bytes(name.encode())
    expected = [
        f"{name} --hash=sha256:{hashlib.sha256(wheel).hexdigest()}"
        for name, wheel in [
            ("cuda-bindings==12.9.9", b"cuda_bindings-12.9.9-cp311-cp311-linux_x86_64.whl"),
            ("edge-ad[build,cuda]==0.1.0", b"edge_ad-0.1.0-py3-none-any.whl"),
        ]
    ]
    assert make.hashed_requirements(tmp_path, make.EXTRAS).splitlines() == expected


def test_a_wheel_without_binaries_and_a_full_directory_are_refused(
    make: ModuleType, tmp_path: Path
) -> None:
    wheel = tmp_path / "edge_ad-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("edge_ad/__init__.py", "")
    with pytest.raises(SystemExit, match=r"has no edge_ad/cuda/bin/binaries\.json; take"):
        make.make_wheelhouse(tmp_path / "out", wheel)
    with pytest.raises(SystemExit, match="not empty"):
        make.make_wheelhouse(tmp_path)


@pytest.mark.parametrize("tensorrt", [None, "cu12", "cu13"])
def test_what_builds_an_engine_is_in_it_and_tensorrt_where_it_was_asked_for(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensorrt: str | None
) -> None:
    wheel = tmp_path / "edge_ad-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("edge_ad/cuda/bin/binaries.json", "{}")
    asked: dict[str, str] = {}

    def pip(command: list[str]) -> None:
        asked[command[command.index("-q") - 1]] = command[-1]
        if "wheel" in command:
            (tmp_path / "out" / "tensorrt_cu12-11.4.0-py2.py3-none-any.whl").write_bytes(b"")

    monkeypatch.setattr(make, "pycuda_wheel", lambda out: None)
    monkeypatch.setattr(make, "run", pip)
    make.make_wheelhouse(tmp_path / "out", wheel, tensorrt)
    wanted = {"download": f"{tmp_path / 'out' / wheel.name}[build,cuda]"}
    hashed = (tmp_path / "out" / "requirements.txt").read_text()
    if tensorrt is not None:
        wanted["wheel"] = f"tensorrt-{tensorrt}>=10,<12"
    assert asked == wanted
    assert ("tensorrt-cu12==11.4.0 --hash=sha256:" in hashed) == (tensorrt is not None)


@pytest.mark.slow
def test_it_installs_without_an_index_and_a_compiler(tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    subprocess.run([sys.executable, str(WHEELHOUSE / "make.py"), "--out", str(house)], check=True)
    requirements = ["--require-hashes", "-r", str(house / "requirements.txt")]
    for number, wanted in enumerate([["edge_ad[build,cuda]"], requirements]):
        directory = tmp_path / f"venv{number}"
        venv.create(directory, with_pip=True)
        python = str(directory / "bin" / "python")
        # Nothing of this machine: no compiler, no index, no packages of the tests.
        env = {"PATH": str(directory / "bin"), "PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path)}
        install = ["-m", "pip", "install", "-q", "--no-index", "--find-links", str(house), *wanted]
        subprocess.run([python, *install], env=env, cwd=tmp_path, check=True)
        told = subprocess.check_output([python, "-c", INSTALLED], env=env, cwd=tmp_path, text=True)
        # Machine code for six and nine architectures, and PTX.
        assert told.splitlines() == [f"{source.name} [7, 10]" for source in SOURCES]
        module = pycuda_module(python)
        assert module
        stub = tmp_path / f"stub{number}"
        stub.mkdir()
        found = {"LD_LIBRARY_PATH": stub_driver(module, stub)["LD_LIBRARY_PATH"]}
        subprocess.run([python, "-c", IMPORT], env={**env, **found}, cwd=tmp_path, check=True)
