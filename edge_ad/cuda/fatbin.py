"""What a fatbin holds, read without any of CUDA's tools.

A fatbin is a header and one entry after another, each with a header of its own in front of machine code
(a cubin, which is an ELF file) or PTX (text that the driver compiles). NVIDIA does not publish the
format; what is read here is alike in the libraries that come with CUDA 12.2 and in what nvcc 13.0 makes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_ad.errors import ArtifactError

MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_FILE = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of all entries
# kind, version, bytes of this header, bytes of what follows it; (compressed bytes, unknown, version of
# the code: minor, major); architecture; (place and length of a name); flags.
_ENTRY = struct.Struct("<HHIQ12xI8xQ")
_COMPRESSED = 0x2000 | 0x8000  # LZ4, zstd
# Identification, OS ABI, ABI version; (type, machine, version, entry, program headers); section headers;
# flags; (header's own size, program headers' size and number); sections' size and number, which has
# names.
_ELF = struct.Struct("<4s3xBB7x24xQI6xHHH")
_SECTION = struct.Struct("<I20xQQ")  # place of the name; place and size of the contents
_ABI_OF_CUDA_13 = 8
_OF_KERNEL = ".nv.constant0."  # the section of a kernel's arguments: other functions have none
_VERSION = re.compile(rb"^\.version (\d+)\.(\d+)", re.MULTILINE)
_TARGET = re.compile(rb"^\.target sm_(\d+)", re.MULTILINE)
_KERNEL = re.compile(rb"\.entry (\w+)")


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code for an architecture (87: sm_87) and those of its generation after it."""

    architecture: int
    abi: int
    kernels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ptx:
    """Text in a version of the PTX language, for an architecture (75: compute_75) and all after it."""

    architecture: int
    version: tuple[int, int]
    kernels: frozenset[str]


def read_fatbin(data: bytes) -> list[Cubin | Ptx]:
    """The entries of an uncompressed fatbin, in its order.

    Raises ArtifactError where it is damaged, compressed, not a fatbin, or holds code for another
    architecture than it says.
    """
    try:
        return list(_entries(data))
    except (struct.error, ValueError, IndexError) as error:
        raise ArtifactError(
            f"a fatbin of {len(data)} bytes is damaged ({error}); build it again"
        ) from error


def _entries(data: bytes) -> Iterator[Cubin | Ptx]:
    magic, version, header, size = _FILE.unpack_from(data)
    if magic != MAGIC or version != 1:
        raise ArtifactError(f"not a fatbin: it begins with {data[:8].hex()}; build it again")
    if header + size != len(data):
        raise ArtifactError(f"a fatbin of {header + size} bytes has {len(data)}; build it again")
    at = header
    while at < len(data):
        kind, _, header, size, architecture, flags = _ENTRY.unpack_from(data, at)
        code = data[at + header : at + header + size]
        if flags & _COMPRESSED:
            raise ArtifactError("a compressed fatbin: not every driver reads it; build it uncompressed")
        if kind == _CUBIN:
            found: Cubin | Ptx = _read_cubin(code)
        elif kind == _PTX:
            found = _read_ptx(code)
        else:
            raise ArtifactError(f"a fatbin with an entry of kind {kind}; build it again")
        if found.architecture != architecture:
            raise ArtifactError(
                f"a fatbin has code for sm_{found.architecture} where it says sm_{architecture}; "
                "build it again"
            )
        yield found
        at += header + size


def _read_cubin(code: bytes) -> Cubin:
    magic, _, abi, sections_at, flags, section_size, count, names_index = _ELF.unpack_from(code)
    if magic != b"\x7fELF":
        raise ArtifactError(f"machine code that is no ELF file: {code[:8].hex()}; build it again")
    # The architecture is the lowest byte up to ABI 7, which CUDA 12 writes, and the one above it from 8
    # on.
    architecture = (flags >> 8 if abi >= _ABI_OF_CUDA_13 else flags) & 0xFF
    sections = [_SECTION.unpack_from(code, sections_at + i * section_size) for i in range(count)]
    _, names_at, names_size = sections[names_index]
    names = code[names_at : names_at + names_size]
    titles = [names[start : names.index(b"\0", start)].decode() for start, _, _ in sections]
    kernels = frozenset(title[len(_OF_KERNEL) :] for title in titles if title.startswith(_OF_KERNEL))
    return Cubin(architecture, abi, kernels)


def _read_ptx(code: bytes) -> Ptx:
    version, target = _VERSION.search(code), _TARGET.search(code)
    if not version or not target:
        raise ArtifactError("PTX without its version or target; build it again")
    kernels = frozenset(name.decode() for name in _KERNEL.findall(code))
    return Ptx(int(target[1]), (int(version[1]), int(version[2])), kernels)
