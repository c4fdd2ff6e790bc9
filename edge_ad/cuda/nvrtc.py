"""The CUDA 12 compiler: NVRTC of CUDA 12.2, and nvFatbin, which packs what it makes.

The package index has no nvcc of CUDA 12, but it has these libraries; they need neither a GPU nor a
compiler of the host. Only those who build need them: `pip install` the PACKAGES.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from edge_ad.cuda.usage import Usage, parse_usage
from edge_ad.errors import DeviceError

# The oldest NVRTC that JetPack 6 is served by, and the oldest nvFatbin there is. Its fatbins are those
# of CUDA 12.2, entry by entry; only machine code and PTX inside differ by version.
PACKAGES = (
    "nvidia-cuda-nvrtc-cu12==12.2.140",
    "nvidia-cuda-runtime-cu12==12.2.140",
    "nvidia-nvfatbin-cu12==12.4.127",
)
REMEDY = f"install {' '.join(PACKAGES)}"
_NVRTC = Path("cuda_nvrtc", "lib", "libnvrtc.so.12")
_FATBIN = Path("nvfatbin", "lib", "libnvfatbin.so.12")
_HEADERS = Path("cuda_runtime", "include")
# Only the first has the version in its name.
_NEEDED = (_NVRTC.with_name("libnvrtc-builtins.so.12.2"), _NVRTC, _FATBIN, _HEADERS / "cuda_fp16.h")


def find_cuda12() -> Path | None:
    """The directory `nvidia` of the PACKAGES: of this Python, else that of the nvcc on the path."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    nvcc = shutil.which("nvcc")
    places += [place for place in (Path(nvcc).parents if nvcc else ()) if place.name == "nvidia"]
    return next((place for place in places if all((place / part).exists() for part in _NEEDED)), None)


def version(root: Path) -> str:
    """NVRTC's, as "12.2". Raises DeviceError when it cannot be loaded."""
    nvrtc = _Library(root / _NVRTC, "nvrtc")
    major, minor = c_int(), c_int()
    nvrtc("Version", byref(major), byref(minor))
    return f"{major.value}.{minor.value}"


def compile_kernels(
    root: Path, target: Path, source: Path, architectures: Sequence[int], ptx: int
) -> list[Usage]:
    """Compile a source to a fatbin at `target`, machine code for each architecture and PTX for `ptx`.

    It is not compressed. Returns what the kernels use. Raises DeviceError with the compiler's message
    when it fails or warns.
    """
    nvrtc = _Library(root / _NVRTC, "nvrtc")
    usage, cubins = [], []
    for architecture in architectures:
        cubin, told = _compile(nvrtc, root, source, f"sm_{architecture}", "CUBIN")
        usage += parse_usage(told)
        cubins.append(cubin)
    text, _ = _compile(nvrtc, root, source, f"compute_{ptx}", "PTX")
    packer = _Library(root / _FATBIN, "nvFatbin")
    target.write_bytes(_pack(packer, dict(zip(architectures, cubins, strict=True)), ptx, text))
    return usage


class _Library:
    """NVRTC's or nvFatbin's functions; those that fail raise DeviceError."""

    def __init__(self, path: Path, prefix: str) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise DeviceError(f"{error}; {REMEDY}") from error
        self._prefix = prefix
        self._text = self._library[f"{prefix}GetErrorString"]
        self._text.restype = c_char_p

    def __call__(self, function: str, *arguments: Any) -> None:
        code = self._library[self._prefix + function](*arguments)
        if code:
            raise DeviceError(f"{self._prefix}{function}: {self._text(code).decode()}; {REMEDY}")

    def read(self, handle: c_void_p, size: str, content: str) -> bytes:
        """A buffer, whose size a function of its own tells."""
        count = c_size_t()
        self(size, handle, byref(count))
        buffer = ctypes.create_string_buffer(count.value)
        self(content, handle, buffer)
        return buffer.raw


def _compile(nvrtc: _Library, root: Path, source: Path, target: str, what: str) -> tuple[bytes, str]:
    """CUBIN or PTX, and what the compiler tells."""
    options = [
        f"--gpu-architecture={target}", "-std=c++17", "--ptxas-options=-v",
        f"-I{source.parent}", f"-I{root / _HEADERS}",
    ]  # fmt: skip
    program = c_void_p()
    nvrtc("CreateProgram", byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
    try:
        failure = None
        try:
            with _same_locale():
                nvrtc("CompileProgram", program, len(options), _texts(options))
        except DeviceError as error:
            failure = error
        told = nvrtc.read(program, "GetProgramLogSize", "GetProgramLog").rstrip(b"\0").decode()
        if failure or "warning" in told:
            raise DeviceError(f"{source}: NVRTC fails for {target}:\n{told}") from failure
        return nvrtc.read(program, f"Get{what}Size", f"Get{what}"), told
    finally:
        nvrtc("DestroyProgram", byref(program))


@contextmanager
def _same_locale() -> Iterator[None]:
    """NVRTC leaves its thread in the locale "C", in which Python opens text files as ASCII."""
    uselocale = ctypes.CDLL(None).uselocale
    uselocale.argtypes, uselocale.restype = [c_void_p], c_void_p
    before = uselocale(None)
    try:
        yield
    finally:
        uselocale(before)


def _pack(packer: _Library, cubins: dict[int, bytes], ptx: int, text: bytes) -> bytes:
    handle = c_void_p()
    options = ["-64", "-compress=false"]
    packer("Create", byref(handle), _texts(options), c_size_t(len(options)))
    try:
        for architecture, cubin in cubins.items():
            packer("AddCubin", handle, cubin, c_size_t(len(cubin)), str(architecture).encode(), b"")
        packer("AddPTX", handle, text, c_size_t(len(text)), str(ptx).encode(), b"", b"")
        return packer.read(handle, "Size", "Get")
    finally:
        packer("Destroy", byref(handle))


def _texts(options: Sequence[str]) -> Any:
    return (c_char_p * len(options))(*(option.encode() for option in options))
