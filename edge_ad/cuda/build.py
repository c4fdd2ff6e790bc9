"""Makes both sets of binaries; needs both compilers (see `nvcc` and `nvrtc`), no GPU.

    python -m edge_ad.cuda.build [--out DIR]

The wheel that is made after that has them inside.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import msgspec

from edge_ad.cuda import nvcc as cuda13
from edge_ad.cuda import nvrtc as cuda12
from edge_ad.cuda.binaries import (
    BINARIES,
    CUDA_12,
    CUDA_13,
    MANIFEST,
    Compiled,
    Manifest,
    Toolkit,
    check_image,
    file_name,
)
from edge_ad.cuda.sources import SOURCES, sources_sha256
from edge_ad.cuda.usage import Usage
from edge_ad.errors import DeviceError, EdgeAdError


def build_binaries(directory: Path = BINARIES) -> dict[str, list[Usage]]:
    """Write both sets and their manifest to a directory; what the kernels use, by compiler and version.

    Raises DeviceError where a compiler is missing, of another version or fails; ArtifactError where it
    made something else than a driver of the set loads.
    """
    nvcc, root = cuda13.find_nvcc(), cuda12.find_cuda12()
    if nvcc is None:
        raise DeviceError(f"no nvcc in this Python or on the path; {cuda13.REMEDY}")
    if root is None:
        raise DeviceError(f"no NVRTC of CUDA 12.2 in this Python or beside nvcc; {cuda12.REMEDY}")
    directory.mkdir(parents=True, exist_ok=True)
    # Whoever is cut off in between leaves no manifest that lists the files of another build.
    (directory / MANIFEST).unlink(missing_ok=True)
    compilers = {CUDA_12: f"NVRTC {cuda12.version(root)}", CUDA_13: f"nvcc {cuda13.version(nvcc)}"}
    usage: dict[str, list[Usage]] = {compiler: [] for compiler in compilers.values()}
    for source in SOURCES:
        for toolkit, compiler in compilers.items():
            target = directory / file_name(source, toolkit)
            arguments = target, source.path, toolkit.architectures, toolkit.ptx_architecture
            usage[compiler] += (
                cuda12.compile_kernels(root, *arguments)
                if toolkit is CUDA_12
                else cuda13.compile_kernels(nvcc, *arguments)
            )
            check_image(target.read_bytes(), toolkit, source.kernels)
    sets = {
        toolkit.name: Compiled(name, _digests(directory, toolkit)) for toolkit, name in compilers.items()
    }
    manifest = Manifest(sources_sha256(), sets)
    (directory / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return usage


def _digests(directory: Path, toolkit: Toolkit) -> dict[str, str]:
    return {
        source.name: hashlib.sha256((directory / file_name(source, toolkit)).read_bytes()).hexdigest()
        for source in SOURCES
    }


@click.command(help="Make the kernels' binaries for drivers of CUDA 12 and 13.")
@click.option("--out", type=click.Path(path_type=Path), default=BINARIES, help="Directory to write.")
def main(out: Path) -> None:
    """Build and list."""
    try:
        build_binaries(out)
    except EdgeAdError as error:
        raise click.ClickException(str(error)) from error
    for path in sorted(out.glob("*.fatbin")):
        click.echo(f"{path.stat().st_size:>9} bytes  {path}")


if __name__ == "__main__":
    main()
