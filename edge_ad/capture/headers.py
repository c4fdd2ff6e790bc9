"""The headers of PNG, JPEG, BMP and TIFF files: size, alpha, and whether the file is whole.

Nothing is decompressed, so that a small file that claims a huge image costs nothing.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from edge_ad.errors import CaptureError


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about itself. `complete` is False for a truncated file or a failed checksum."""

    kind: str
    width: int
    height: int
    alpha: bool
    complete: bool


def read_header(data: bytes) -> ImageHeader:
    """The header of an image file's bytes. Raises CaptureError when it is none of the four formats, or
    ends inside its header."""
    try:
        header = _parse(data)
    except (struct.error, IndexError) as error:
        raise CaptureError("the file ends inside its header; copy it again from its source") from error
    if header.width < 1 or header.height < 1:
        raise CaptureError(f"the {header.kind} header claims {header.width} x {header.height} pixels")
    return header


def _parse(data: bytes) -> ImageHeader:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data)
    raise CaptureError("not a PNG, JPEG, BMP or TIFF image; convert it, or remove it from the folder")


def _png(data: bytes) -> ImageHeader:
    """Walks the chunks, whose lengths and checksums show a cut or a flipped bit."""
    width, height, _depth, colour = struct.unpack_from(">IIBB", data, 16)
    alpha = colour in (4, 6)
    position, complete = 8, False
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        kind = data[position + 4 : position + 8]
        (stored,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stored:
            break
        alpha = alpha or kind == b"tRNS"
        if kind == b"IEND":
            complete = True
            break
        position = end
    return ImageHeader("PNG", width, height, alpha, complete)


# Inside entropy-coded data FF is followed by 00, a restart marker or fill; anything else is a marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def _jpeg(data: bytes) -> ImageHeader:
    """Walks the segments (so a thumbnail's own end does not count) to the end-of-image marker."""
    width = height = 0
    position = 2
    complete = False
    while found := _MARKER.search(data, position):
        marker = data[found.start() + 1]
        position = found.end()
        if marker == 0xD9:
            complete = True
            break
        if marker == 0x01:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _precision, height, width, channels = struct.unpack_from(">BHHB", data, position + 2)
            if channels == 4:
                raise CaptureError("a JPEG in CMYK; save it as RGB or grey")
        position += length
    if not width:
        raise struct.error("no frame header")
    return ImageHeader("JPEG", width, height, False, complete)


def _bmp(data: bytes) -> ImageHeader:
    offset, size, width, height, _planes, bits, packing = struct.unpack_from("<I I ii HH I", data, 10)
    if size < 40 or packing not in (0, 3):
        raise CaptureError("a compressed or OS/2 BMP; save it as PNG")
    row = (width * bits + 31) // 32 * 4
    return ImageHeader("BMP", width, abs(height), bits == 32, len(data) >= offset + row * abs(height))


_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}


def _tiff(data: bytes) -> ImageHeader:
    """The first page; whole when every strip or tile lies inside the file."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags: dict[int, tuple[int, ...]] = {}
    for i in range(count):
        entry = start + 2 + 12 * i
        tag, kind, n = struct.unpack_from(order + "HHI", data, entry)
        if kind not in _TIFF_TYPES:
            continue
        code = f"{order}{n}{_TIFF_TYPES[kind]}"
        if n > len(data):
            raise struct.error("more values than bytes")
        (far,) = struct.unpack_from(order + "I", data, entry + 8)
        tags[tag] = struct.unpack_from(code, data, entry + 8 if struct.calcsize(code) <= 4 else far)
    offsets = tags.get(273) or tags.get(324) or ()
    lengths = tags.get(279) or tags.get(325) or ()
    complete = bool(offsets) and len(offsets) == len(lengths)
    complete = complete and all(o + n <= len(data) for o, n in zip(offsets, lengths, strict=True))
    samples = tags.get(277, (1,))[0]
    return ImageHeader(
        "TIFF",
        tags.get(256, (0,))[0],
        tags.get(257, (0,))[0],
        338 in tags or samples in (2, 4),
        complete,
    )
