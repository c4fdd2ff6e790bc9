"""What makes the package, and where it is installed."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pip
import pytest
from made_up_package import MadeUp

PACKAGE = Path(__file__).resolve().parents[2] / "deploy" / "package"


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    sys.path.insert(0, str(PACKAGE))
    import build

    yield build
    sys.path.remove(str(PACKAGE))


@pytest.fixture(scope="module")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This environment's pip, as one runs it out of its wheel."""
    path = tmp_path_factory.mktemp("pip") / "pip-1-py3-none-any.whl"
    home = Path(pip.__file__).parent
    with zipfile.PyZipFile(str(path), "w") as wheel:
        wheel.writepy(str(home))  # compiled: it is run several times
        for file in home.rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                wheel.write(file, f"pip/{file.relative_to(home)}")
    return path


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path)
