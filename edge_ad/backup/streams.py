"""Compressed files with a checksum: .tar.gz by the standard library, .tar.zst by `zstandard`."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, Any, cast

from edge_ad.errors import ConfigError

_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SUFFIXES = (".tar.zst", ".tar.gz")


def compressor(out: IO[bytes], name: str) -> IO[bytes]:
    """What is written into it goes into `out`, compressed as the name says. Its `close` leaves `out`
    open. Raises ConfigError."""
    if name.endswith(".tar.gz"):
        # Pictures are compressed already: more effort gains nothing.
        return cast(IO[bytes], gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0))
    if name.endswith(".tar.zst"):
        made = _zstandard(name).ZstdCompressor(level=3, write_checksum=True)
        return cast(IO[bytes], made.stream_writer(out, closefd=False))
    raise ConfigError(f"{name}: is no name for a backup; end it in {' or '.join(SUFFIXES)}")


def decompressor(source: IO[bytes], name: str) -> IO[bytes]:
    """Reads what `compressor` wrote, by what is in it. Raises ConfigError for another kind of file."""
    magic = source.read(4)
    source.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        return cast(IO[bytes], gzip.GzipFile(fileobj=source, mode="rb"))
    if magic == _ZSTD_MAGIC:
        made = _zstandard(name).ZstdDecompressor()
        return cast(IO[bytes], made.stream_reader(source, closefd=False, read_across_frames=True))
    raise ConfigError(
        f"{name}: is no backup: neither gzip nor Zstandard; give what 'edge-ad backup' wrote"
    )


def damage() -> tuple[type[Exception], ...]:
    """What is raised while damaged data is read."""
    try:
        import zstandard
    except ImportError:
        return (gzip.BadGzipFile, zlib.error, EOFError)
    return (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError)


def _zstandard(name: str) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ConfigError(
            f"{name}: needs a package: pip install 'edge_ad[backup]', or take .tar.gz"
        ) from error
    return zstandard
