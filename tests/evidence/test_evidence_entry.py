"""Entries by number, by key and by name, and what is no entry."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from made_up_evidence import PATIENCE_S, frames, outcome, picture, settings

from edge_ad.errors import ConfigError
from edge_ad.evidence.entry import find_entries, read_entries
from edge_ad.evidence.writer import EvidenceWriter

KEYS = ["A", "B", "A", "1"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    writer = EvidenceWriter(
        tmp_path, settings(), "line1", "e1", {"top": lambda: "auto8"}, lambda *_: None
    )
    for i, key in enumerate(KEYS):
        writer.offer(frames(picture(i)), outcome(key=key))
    writer.start()
    writer.close(PATIENCE_S)
    return tmp_path


def find(state: Path, *ids: str) -> list[int]:
    entries, damaged = read_entries(state, "disc")
    assert damaged == []
    return [entry.number for entry in find_entries(entries, ids, "edge-ad evidence list")]


def test_an_id_is_a_number_a_key_or_both(state: Path) -> None:
    assert find(state, "2", "000003", "B", "000001-A", "000004") == [2, 3, 1, 4]


def test_a_key_that_several_have_is_an_error_with_their_numbers(state: Path) -> None:
    with pytest.raises(ConfigError, match=r"'A' names the entries 1, 3; .*000001-A, 000003-A"):
        find(state, "A")


def test_a_key_that_is_also_a_number_is_not_guessed(state: Path) -> None:
    with pytest.raises(ConfigError, match=r"'1' names the entries 4, 1; .*000004-1, 000001-A"):
        find(state, "1")
    assert find(state, "000004-1", "000001") == [4, 1]


def test_an_unknown_id_is_named_with_the_command_that_lists(state: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'77' is neither .* of the 4 entries; 'edge-ad evidence list'"
    ):
        find(state, "77")


def test_half_an_entry_is_none_and_a_damaged_one_is_told(state: Path) -> None:
    product = state / "evidence" / "disc"
    (product / ".new-000005-C").mkdir()
    shutil.copy(product / "000001-A" / "verdict.json", product / ".new-000005-C")
    (product / "000006-D").mkdir()  # its verdict is missing: it is being removed
    (product / "notes.txt").write_text("mine")
    (product / "000002-B" / "verdict.json").write_text('{"number": 2, "head')
    shutil.copytree(product / "000001-A", product / "000009-A")
    entries, damaged = read_entries(state, "disc")
    assert [entry.number for entry in entries] == [1, 3, 4]
    assert len(damaged) == 2
    assert any(re.search(r"000002-B/verdict.json: is no verdict .* remove", line) for line in damaged)
    assert any(re.search(r"000009-A: is named otherwise than its number 1", line) for line in damaged)


def test_a_product_without_evidence_has_no_entries(tmp_path: Path) -> None:
    assert read_entries(tmp_path, "disc") == ([], [])
