"""The two sets of binaries: what is in them, which one a driver gets, what is refused."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from built_binaries import Built

from edge_ad.config.local import tomllib
from edge_ad.cuda.binaries import (
    CUDA_12,
    CUDA_13,
    MANIFEST,
    check_architecture,
    check_image,
    kernel_image,
    read_manifest,
    toolkit_for,
)
from edge_ad.cuda.driver import cuda_version
from edge_ad.cuda.fatbin import Cubin, Ptx, read_fatbin
from edge_ad.cuda.sources import PACKAGE, SOURCES, Source, sources_sha256
from edge_ad.errors import ArtifactError, DeviceError

ROOT = Path(__file__).resolve().parents[2]
KERNELS = frozenset(SOURCES[0].kernels)


def elf(flags: int, abi: int, names: list[str], magic: bytes = b"\x7fELF") -> bytes:
    """A cubin's header and sections, of which only the names matter."""
    table = b"\0" + b"".join(name.encode() + b"\0" for name in [*names, ".shstrtab"])
    starts = [table.index(name.encode() + b"\0") for name in [*names, ".shstrtab"]]
    header = struct.pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        magic, 2, 1, 1, 51, abi, 2, 190, 1, 0, 0, 64 + len(table), flags, 64, 0, 0, 64,
        len(starts), len(names),
    )  # fmt: skip
    sections = [struct.pack("<IIQQQQIIQQ", at, 3, 0, 0, 64, len(table), 0, 0, 1, 0) for at in starts]
    return header + table + b"".join(sections)


def entry(kind: int, architecture: int, code: bytes, flags: int = 0x11) -> bytes:
    """One of a fatbin."""
    fields = kind, 0x101, 64, len(code), 0, 0, 7, 1, architecture, 0, 0, flags, 0, 0
    return struct.pack("<HHIQIIHHIIIQQQ", *fields) + code


def fatbin(*entries: bytes) -> bytes:
    """A whole one."""
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(b"".join(entries))) + b"".join(entries)


PTX = b"//\n.version 8.2\n.target sm_75\n.address_size 64\n.visible .entry one(\n.visible .entry two("


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_what_cuda_12_loads(built: Built, source: Source) -> None:
    """Written out, not read from where the build reads it: JetPack 6 loads just this."""
    found = read_fatbin(kernel_image(source.name, 12020, built.directory))
    assert [(e.architecture, e.abi) for e in found if isinstance(e, Cubin)] == [
        (architecture, 7) for architecture in (75, 80, 86, 87, 89, 90)
    ]
    assert [(e.architecture, e.version) for e in found if isinstance(e, Ptx)] == [(75, (8, 2))]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_what_cuda_13_loads(built: Built, source: Source) -> None:
    found = read_fatbin(kernel_image(source.name, 13000, built.directory))
    assert sorted((e.architecture, e.abi) for e in found if isinstance(e, Cubin)) == [
        (architecture, 8) for architecture in (75, 80, 86, 87, 89, 90, 100, 110, 120)
    ]
    assert [(e.architecture, e.version) for e in found if isinstance(e, Ptx)] == [(75, (9, 0))]


def test_every_kernel_is_in_every_entry(built: Built) -> None:
    for source in SOURCES:
        for driver in (12060, 13020):
            for found in read_fatbin(kernel_image(source.name, driver, built.directory)):
                assert found.kernels == set(source.kernels)


@pytest.mark.parametrize(
    ("driver", "name"),
    [(12020, "cuda12"), (12060, "cuda12"), (12090, "cuda12"), (13000, "cuda13"), (14000, "cuda13")],
)
def test_the_driver_chooses(driver: int, name: str) -> None:
    assert toolkit_for(driver).name == name


def test_too_old_a_driver_or_gpu_is_told_with_both_versions(built: Built) -> None:
    for driver, written in [(12010, "12.1"), (11040, "11.4")]:
        with pytest.raises(DeviceError, match=rf"CUDA 12.2 or newer, have one of {written};.*JetPack"):
            kernel_image("mahalanobis", driver, built.directory)
    check_architecture(75)
    check_architecture(130)
    with pytest.raises(DeviceError, match=r"capability 7.5 or newer, have one of 7.2; .*engine.kind"):
        check_architecture(72)
    assert cuda_version(13020) == "13.2"


def test_an_installation_without_binaries_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no kernel binaries; .*wheel.*edge_ad\.cuda\.build"):
        kernel_image("mahalanobis", 12060, tmp_path)


def test_binaries_that_are_not_the_manifest_s_are_refused(built: Built, tmp_path: Path) -> None:
    directory = tmp_path / "bin"
    shutil.copytree(built.directory, directory)
    image = directory / "mahalanobis.cuda12.fatbin"
    image.write_bytes(image.read_bytes()[:-1] + b"\1")
    assert kernel_image("mahalanobis", 13000, directory)
    with pytest.raises(ArtifactError, match=r"cuda12\.fatbin: damaged"):
        kernel_image("mahalanobis", 12060, directory)
    image.unlink()
    with pytest.raises(ArtifactError, match=r"cuda12\.fatbin: No such file.*edge_ad\.cuda\.build"):
        kernel_image("mahalanobis", 12060, directory)
    for text, why in [
        (b'{"sources": 1}', "Expected `str`"),
        (b'{"sources": "\xff"}', "utf-8"),
        (b"", "trunc"),
    ]:
        (directory / MANIFEST).write_bytes(text)
        with pytest.raises(ArtifactError, match=rf"{MANIFEST}: .*{why}"):
            read_manifest(directory)


def test_binaries_of_other_sources_are_refused(built: Built, tmp_path: Path) -> None:
    package = tmp_path / "package"
    for source in SOURCES:
        shutil.copytree(source.path.parent, package / source.path.parent.relative_to(PACKAGE))
    assert sources_sha256(package) == sources_sha256()
    header = next(package.rglob("*.cuh"))
    header.write_text(header.read_text() + "// another\n")
    with pytest.raises(ArtifactError, match="made from other CUDA sources"):
        kernel_image("mahalanobis", 12060, built.directory, package)


def test_what_another_toolkit_made_is_refused(built: Built) -> None:
    for image, toolkit in [
        (kernel_image("mahalanobis", 12060, built.directory), CUDA_13),
        (kernel_image("mahalanobis", 13000, built.directory), CUDA_12),
    ]:
        with pytest.raises(ArtifactError, match=f"{toolkit.name}: machine code and ABI are"):
            check_image(image, toolkit, KERNELS)
    image = kernel_image("mahalanobis", 12060, built.directory)
    with pytest.raises(ArtifactError, match=r"PTX is \[\(75, \(8, 2\)\)\], not \(8, 0\) for 75"):
        check_image(image, replace(CUDA_12, ptx=(8, 0)), KERNELS)
    with pytest.raises(ArtifactError, match="does not hold the kernels"):
        check_image(image, CUDA_12, [*KERNELS, "another"])


def test_a_fatbin_is_read_entry_by_entry() -> None:
    cubins = elf(0x570557, 7, [".nv.constant0.one", ".text.one"]), elf(0x6006E04, 8, [".text.helper"])
    data = fatbin(entry(2, 87, cubins[0]), entry(2, 110, cubins[1]), entry(1, 75, PTX))
    assert read_fatbin(data) == [
        Cubin(87, 7, frozenset({"one"})),
        Cubin(110, 8, frozenset()),
        Ptx(75, (8, 2), frozenset({"one", "two"})),
    ]
    assert read_fatbin(fatbin()) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "damaged"),
        (b"\x7fELF" + bytes(60), "not a fatbin"),
        (fatbin(entry(1, 75, PTX))[:-1], "has"),
        (fatbin(entry(1, 75, PTX)) + b"\0", "has"),
        (fatbin(entry(1, 75, PTX)[:20]), "damaged"),
        (fatbin(entry(1, 75, PTX, 0x2011)), "compressed"),
        (fatbin(entry(1, 75, PTX, 0x8011)), "compressed"),
        (fatbin(entry(1, 80, PTX)), "sm_75 where it says sm_80"),
        (fatbin(entry(1, 75, b"nothing")), "without its version"),
        (fatbin(entry(8, 75, b"something new")), "kind 8"),
        (fatbin(entry(2, 87, elf(0x570557, 7, [], b"?ELF"))), "no ELF"),
        (fatbin(entry(2, 87, elf(0x570557, 7, [".text.one"])[:-40])), "damaged"),
        (fatbin(entry(2, 87, elf(0x6005704, 7, []))), "sm_4 where it says sm_87"),
    ],
)
def test_what_is_no_fatbin_of_ours_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ArtifactError, match=why):
        read_fatbin(data)


def test_the_package_ships_its_binaries() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "cuda/bin/*" in project["tool"]["setuptools"]["package-data"]["edge_ad"]
