"""A tiny network, a data set, and the command as a person would run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_dataset import write_class
from tiny_backbone import write_tiny_backbone

from edge_ad.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("tiny")
    write_tiny_backbone(directory)
    return str(directory)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class(tmp_path_factory.mktemp("data") / "plates")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: str) -> Run:
    """Run the command: exit code, standard output, standard error."""

    def evaluate(*arguments: object, backbone: bool = True) -> tuple[int, str, str]:
        argv = ["edge-ad", "evaluate", *map(str, arguments)]
        monkeypatch.setattr("sys.argv", argv + (["--backbone", tiny] if backbone else []))
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return evaluate
