"""A backbone on disk is found whole or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_backbone import WIDTHS, write_tiny_backbone

from edge_ad.backbone.spec import JSON_NAME, ONNX_NAME, encode_spec, load_backbone
from edge_ad.errors import ArtifactError


def _edit(directory: Path, **changes: object) -> None:
    path = directory / JSON_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = write_tiny_backbone(tmp_path)
    read = load_backbone(tmp_path)
    assert read == written
    assert (read.height, read.width, read.dim) == (64, 64, sum(WIDTHS))
    assert [level.dim for level in read.levels] == list(WIDTHS)
    assert (tmp_path / JSON_NAME).read_bytes() == encode_spec(read.spec)


@pytest.mark.parametrize("name", [ONNX_NAME, JSON_NAME])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_tiny_backbone(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_backbone(tmp_path)


def test_another_graph_is_refused_naming_both_sums(tmp_path: Path) -> None:
    expected = write_tiny_backbone(tmp_path / "a").sha256
    other = write_tiny_backbone(tmp_path / "b", seed=1)
    (tmp_path / "a" / ONNX_NAME).write_bytes(other.onnx_path.read_bytes())
    with pytest.raises(ArtifactError, match=rf"(?s){other.sha256}.*{expected}"):
        load_backbone(tmp_path / "a")
    assert load_backbone(tmp_path / "a", verify=False).sha256 == expected


def test_a_later_schema_is_refused_before_anything_else_is_read(tmp_path: Path) -> None:
    write_tiny_backbone(tmp_path)
    (tmp_path / JSON_NAME).write_text('{"schema": 2, "everything": "else"}')
    with pytest.raises(ArtifactError, match="schema is 2, this edge_ad reads 1"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', "\xff"])
def test_damaged_json_is_refused(tmp_path: Path, text: str) -> None:
    write_tiny_backbone(tmp_path)
    (tmp_path / JSON_NAME).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=JSON_NAME):
        load_backbone(tmp_path)


def test_levels_must_fill_pooled(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path)
    outputs = json.loads((backbone.directory / JSON_NAME).read_text())["outputs"]
    outputs["pooled"]["dim"] += 1
    _edit(tmp_path, outputs=outputs)
    with pytest.raises(ArtifactError, match="the levels fill 60 columns, pooled has 61"):
        load_backbone(tmp_path)
    outputs["pooled"]["levels"][1]["offset"] += 1
    _edit(tmp_path, outputs=outputs)
    with pytest.raises(ArtifactError, match="level 'level2' has offset 9"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ["level3", "level9"]}, r"the levels \['level3', 'level9'\], pooled has"),
        ({"levels": ["level3", "level3"]}, r"the levels \['level3', 'level3'\], pooled has"),
        ({"levels": []}, r"the levels \[\], pooled has"),
        ({"rows": 5}, "5 x 4 positions 16 pixels apart, the input is 64 x 64"),
        ({"stride": 0}, "4 x 4 positions 0 pixels apart"),
        ({"dim": 41}, "41 dimensions .seed 0., its levels have 40 channels"),
        ({"seed": None}, "10 dimensions .seed None., its levels have 40 channels"),
        ({"grid": [4, 4]}, "unknown field `grid`"),
    ],
)
def test_local_must_fit_the_levels_and_the_input(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    backbone = write_tiny_backbone(tmp_path)
    assert backbone.local is not None
    assert backbone.local.positions == 16
    outputs = json.loads((tmp_path / JSON_NAME).read_text())["outputs"]
    outputs["local"] |= changes
    _edit(tmp_path, outputs=outputs)
    with pytest.raises(ArtifactError, match=message):
        load_backbone(tmp_path)


def test_a_backbone_may_have_no_local_features(tmp_path: Path) -> None:
    assert write_tiny_backbone(tmp_path, local=False).local is None
