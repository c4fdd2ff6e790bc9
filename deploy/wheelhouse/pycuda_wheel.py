"""Builds pycuda's wheel for the running Python, on a PC without a GPU or a driver.

    python deploy/wheelhouse/pycuda_wheel.py --out DIR

The package index has pycuda's sources only. What they need of CUDA are headers, and a library of the
driver's name to be linked against: an empty one does, since a line PC brings the real one. The headers
are those of CUDA 12.2. Those of 13 would have the module ask for functions that JetPack 6's driver does
not have, and its import would fail there; a driver keeps its old functions, so that a newer one has all
of 12.2's. Needs a C++ compiler and the index; a minute on two cores. A wheel that is there is left.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "pycuda_source.txt"
HEADERS = HERE / "pycuda_headers.txt"
STUB = "int cuInit(unsigned flags) { (void)flags; return 3; }\n"

# Run before setup.py, which compiles one file after another otherwise.
PARALLEL = """
import os, runpy, sys
from concurrent.futures import ThreadPoolExecutor
import setuptools
from distutils.ccompiler import CCompiler

def compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
            extra_postargs=None, depends=None):
    macros, objects, postargs, options, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    arguments = self._get_cc_args(options, debug, extra_preargs)
    def one(target):
        self._compile(target, *build[target], arguments, postargs, options)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, build))
    return objects

CCompiler.compile = compile
sys.path.insert(0, os.getcwd())
sys.argv = ["setup.py", "bdist_wheel", "--dist-dir", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
"""


def main() -> None:
    """Build, unless it is there, and print where."""
    parser = argparse.ArgumentParser(description="Build pycuda's wheel for this Python.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the wheel")
    print(pycuda_wheel(parser.parse_args().out))


def pycuda_wheel(out: Path) -> Path:
    """The wheel in `out`, built if it is not there. Raises CalledProcessError when a step fails."""
    out.mkdir(parents=True, exist_ok=True)
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    version = re.search(r"^pycuda==(\S+)", SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert version, SOURCE
    pattern = f"pycuda-{version[1]}-{tag}-{tag}-linux_{os.uname().machine}.whl"
    if not (found := sorted(out.glob(pattern))):
        with tempfile.TemporaryDirectory() as directory:
            _build(Path(directory), out.resolve())
        found = sorted(out.glob(pattern))
    return found[0]


def _build(work: Path, out: Path) -> None:
    venv.create(work / "venv", with_pip=True)
    python = str(work / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    # numpy: any from 2 on builds what every later one, and 1.26, runs.
    _run([*pip, "install", "-q", "setuptools>=77", "wheel", "numpy>=2"])
    _download(pip, work, SOURCE, "--no-build-isolation", "--no-binary", ":all:")
    # Headers are the same for every processor; of this version there is a package for one alone.
    _download(pip, work, HEADERS, "--only-binary", ":all:", "--platform", "manylinux1_x86_64")
    root = work / "cuda"
    (root / "lib64").mkdir(parents=True)
    for archive in work.glob("*.whl"):
        _unpack_headers(archive, root / "include")
    (work / "stub.c").write_text(STUB, encoding="utf-8")
    _run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(root / "lib64" / "libcuda.so"),
          str(work / "stub.c")])  # fmt: skip
    _run(["tar", "xf", str(next(work.glob("pycuda-*.tar.gz"))), "-C", str(work)])
    source = next(path.parent for path in work.glob("pycuda-*/configure.py"))
    _run(
        [python, "configure.py", "--no-cuda-enable-curand", f"--cuda-root={root}", "--cxxflags=-w,-g0"],
        source,
    )
    (work / "parallel.py").write_text(PARALLEL, encoding="utf-8")
    _run([python, str(work / "parallel.py"), str(work / "dist")], source)
    wheel = next((work / "dist").iterdir())
    # A copy that is cut off must not look like a wheel.
    shutil.copy(wheel, out / f"{wheel.name}.part")
    (out / f"{wheel.name}.part").replace(out / wheel.name)


def _download(pip: list[str], work: Path, requirements: Path, *options: str) -> None:
    """What a file lists, by its hashes, into the work directory."""
    hashed = ["--no-deps", "--require-hashes", "-r", str(requirements), "-d", str(work)]
    _run([*pip, "download", "-q", *options, *hashed])


def _unpack_headers(archive: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive) as wheel:
        for name in wheel.namelist():
            path = Path(name)
            if path.parent.name == "include" and path.suffix == ".h":
                (target / path.name).write_bytes(wheel.read(name))


def _run(command: list[str], directory: Path | None = None) -> None:
    """A step; what it says is shown only when it fails."""
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, command)


if __name__ == "__main__":
    main()
