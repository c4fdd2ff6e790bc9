"""The kernels' binaries: two sets, of which the driver's version says which one a GPU gets.

A driver takes machine code that was compiled by its own major version of CUDA, or an older one, and PTX
up to its own minor version. What nvcc 13.0 makes therefore does not load on JetPack 6, whose driver is
that of CUDA 12.2 to 12.6: its ELF files have OS ABI 65 and ABI version 8, where CUDA 12 writes 51 and 7
and keeps the architecture in other bits, and its PTX has version 9.0, where 12.2 reads up to 8.2 (all
read from what the compilers made; not tried on a Jetson). So `cuda12` comes from the compiler of 12.2,
which every driver takes from there on, and `cuda13` from that of 13.0, which knows the GPUs of 2025. PTX
is for GPUs that are not in the list: their driver compiles it when it loads the kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_ad.cuda.driver import OTHERWISE, cuda_version
from edge_ad.cuda.fatbin import Cubin, Ptx, read_fatbin
from edge_ad.cuda.sources import PACKAGE, SOURCES, Source, sources_sha256
from edge_ad.errors import ArtifactError, DeviceError

BINARIES = Path(__file__).with_name("bin")
MANIFEST = "binaries.json"
REMEDY = "install edge_ad's wheel of the wheelhouse, or run `python -m edge_ad.cuda.build` in a checkout"


@dataclass(frozen=True, slots=True)
class Toolkit:
    """What a set is made by and for.

    driver: the oldest that loads it, as cuDriverGetVersion tells (12020: CUDA 12.2). architectures: with
    machine code of their own (87: sm_87). ptx: version of its PTX, which is for `ptx_architecture`. abi:
    version of its ELF files'.
    """

    name: str
    driver: int
    architectures: tuple[int, ...]
    ptx: tuple[int, int]
    abi: int
    ptx_architecture: int = 75


# T4, A100, RTX 30, Orin, RTX 40, H100 and H200; then B200, Thor, RTX 50.
CUDA_12 = Toolkit("cuda12", 12020, (75, 80, 86, 87, 89, 90), (8, 2), 7)
CUDA_13 = Toolkit("cuda13", 13000, (*CUDA_12.architectures, 100, 110, 120), (9, 0), 8)
TOOLKITS = (CUDA_12, CUDA_13)


class Compiled(msgspec.Struct, frozen=True):
    """A set as it was made: by which compiler, and the sha256 of each source's binary."""

    compiler: str
    sha256: dict[str, str]


class Manifest(msgspec.Struct, frozen=True):
    """What lies in the directory, and the sha256 of the sources that it was made from."""

    sources: str
    sets: dict[str, Compiled]


def toolkit_for(driver: int) -> Toolkit:
    """The newest set that a driver of this version loads; DeviceError where there is none."""
    fitting = [toolkit for toolkit in TOOLKITS if driver >= toolkit.driver]
    if not fitting:
        raise DeviceError(
            f"kernels require a driver of CUDA {cuda_version(TOOLKITS[0].driver)} or newer, have one "
            f"of {cuda_version(driver)}; update the NVIDIA driver (on a Jetson: JetPack 6 or 7), or "
            f"{OTHERWISE}"
        )
    return fitting[-1]


def check_architecture(architecture: int) -> None:
    """Raise DeviceError for a GPU (75: compute capability 7.5) that is older than all binaries."""
    lowest = CUDA_12.ptx_architecture
    if architecture < lowest:
        raise DeviceError(
            f"kernels require a GPU of compute capability {lowest / 10} or newer, have one of "
            f"{architecture / 10}; use another card, or {OTHERWISE}"
        )


def file_name(source: Source, toolkit: Toolkit) -> str:
    """Of a source's binary in the directory."""
    return f"{source.name}.{toolkit.name}.fatbin"


def kernel_image(name: str, driver: int, directory: Path = BINARIES, package: Path = PACKAGE) -> bytes:
    """The fatbin to load, of a source (as "mahalanobis") and for a driver's version (12060: CUDA 12.6).

    Raises DeviceError where the driver is too old; ArtifactError where the installation has no binaries,
    or they are damaged or older than its sources. KeyError: no such source.
    """
    source = {source.name: source for source in SOURCES}[name]
    toolkit = toolkit_for(driver)
    manifest = read_manifest(directory)
    if manifest.sources != sources_sha256(package):
        raise ArtifactError(f"{directory}: made from other CUDA sources than {package} holds; {REMEDY}")
    path = directory / file_name(source, toolkit)
    try:
        image = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; {REMEDY}") from error
    made = manifest.sets.get(toolkit.name)
    if made is None or made.sha256.get(name) != hashlib.sha256(image).hexdigest():
        raise ArtifactError(f"{path}: damaged, or not the one that {MANIFEST} lists; {REMEDY}")
    return image


def read_manifest(directory: Path = BINARIES) -> Manifest:
    """Of the directory; ArtifactError where it is not there or not readable."""
    path = directory / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ArtifactError(
            f"{path}: {error.strerror}: this installation has no kernel binaries; {REMEDY}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: {error}; {REMEDY}") from error


def check_image(image: bytes, toolkit: Toolkit, kernels: Sequence[str]) -> None:
    """Raise ArtifactError where a fatbin has not the architectures, ABI, PTX and kernels of its set."""
    for entry in (entries := read_fatbin(image)):
        if entry.kernels != set(kernels):
            raise ArtifactError(f"{entry} does not hold the kernels {sorted(kernels)}; build it again")
    found = [(e.architecture, e.abi) for e in entries if isinstance(e, Cubin)]
    wanted = [(architecture, toolkit.abi) for architecture in toolkit.architectures]
    if sorted(found) != wanted:
        raise ArtifactError(
            f"{toolkit.name}: machine code and ABI are {sorted(found)}, not {wanted}; "
            "build with the stated compiler"
        )
    texts = [(e.architecture, e.version) for e in entries if isinstance(e, Ptx)]
    if texts != [(toolkit.ptx_architecture, toolkit.ptx)]:
        raise ArtifactError(
            f"{toolkit.name}: PTX is {texts}, not {toolkit.ptx} for {toolkit.ptx_architecture}; "
            "build with the stated compiler"
        )
