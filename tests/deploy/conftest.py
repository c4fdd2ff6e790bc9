"""Where the package is installed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pip
import pytest
from made_up_package import MadeUp


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
