"""`edge-ad status` and `edge-ad reload`, against a daemon in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from daemon_line import Line, good
from tiny_bundle import make_bundle

from edge_ad.cli import reload, status
from edge_ad.errors import DeliveryError


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    make_bundle(tmp_path / "state")
    (tmp_path / "line.toml").write_text(
        'schema = 1\nstation = "line1"\nstate_dir = "state"\n[[camera]]\nname = "top"\nuri = "folder:///x"\n'
    )
    with Line(tmp_path / "state") as one:
        yield one


def test_status_is_what_a_person_wants_to_know(line: Line, tmp_path: Path) -> None:
    line.feed(good(0), good(1), good(2))
    line.verdicts(3)
    asked = CliRunner().invoke(status.command, ["-c", str(tmp_path / "line.toml")])
    assert asked.exit_code == 0
    first, product, parts, camera, metrics = asked.output.splitlines()
    assert first.startswith("line1: RUNNING, pid ")
    assert product.startswith("product  default, bundle ") and "none yet" not in product
    assert parts == "parts    3, 0 not passed"
    assert camera == "camera   top: up, 3 frames"
    assert metrics == f"metrics  {line.daemon.http.url}"
    asked = CliRunner().invoke(status.command, ["-c", str(tmp_path / "line.toml"), "--json"])
    assert json.loads(asked.output)["parts"] == 3


def test_a_reload_that_is_refused_says_why(line: Line, tmp_path: Path) -> None:
    asked = CliRunner().invoke(reload.command, ["-c", str(tmp_path / "line.toml")])
    assert isinstance(asked.exception, DeliveryError)
    assert "the configuration is not from a file" in str(asked.exception)


def test_where_no_daemon_runs_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text(
        'schema = 1\nstation = "line1"\n[[camera]]\nname = "top"\nuri = "folder:///x"\n'
    )
    asked = CliRunner().invoke(status.command, ["-c", str(tmp_path / "line.toml")])
    assert isinstance(asked.exception, DeliveryError)
    assert "is 'edge-ad run' up?" in str(asked.exception)
