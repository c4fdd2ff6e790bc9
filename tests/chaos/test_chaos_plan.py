"""All that happens in a chaos run follows from its seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edge_ad.chaos.checker import read_lines
from edge_ad.chaos.plan import PLACES, Options, Part, plan_kills, plan_parts, write_lines

BAD = [False, False, True, False]


def test_the_seed_decides() -> None:
    one, same, other = (plan_parts(Options(parts=500, seed=seed), BAD) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert list(plan_kills(Options(seed=1), "daemon")) == list(plan_kills(Options(seed=1), "daemon"))
    assert list(plan_kills(Options(seed=1), "daemon")) != list(plan_kills(Options(seed=1), "station"))


def test_every_kind_of_wrong_trigger_comes_and_parts_are_those_of_the_pool() -> None:
    for seed in range(20):
        parts = plan_parts(Options(parts=60, seed=seed), BAD)
        kinds = Counter((part.camera, part.station) for part in parts)
        assert set(kinds) == {(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)}
        assert [part.bad for part in parts] == BAD * 15
        wrong = {(part.camera, part.station, part.bad) for part in parts if not part.ordinary}
        assert len(wrong) == 8, "each kind among good parts and among bad ones"
        assert [part.key for part in parts[:2]] == ["S00000000", "S00000001"]


def test_kills_are_from_outside_and_at_every_place() -> None:
    for victim, places in PLACES.items():
        kills = list(plan_kills(Options(kills=200, parts=100_000), victim))
        assert len(kills) == 200
        assert {kill.place for kill in kills} == {"", *places}
        assert 0 < kills[0].latest_s < kills[-1].latest_s < 100_000 / Options().rate
        assert sum(kill.after_parts for kill in kills) < 100_000


def test_lines_come_back(tmp_path: Path) -> None:
    parts = plan_parts(Options(parts=60), BAD)
    write_lines(tmp_path / "plan.jsonl", parts)
    assert read_lines(tmp_path / "plan.jsonl", Part) == parts
