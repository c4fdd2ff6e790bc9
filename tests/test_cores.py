"""Cores are counted once, whatever runs on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_ad.cores import usable_cores


def test_cores_are_counted_once_and_the_quota_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert usable_cores(tmp_path) == 4
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    assert usable_cores(tmp_path) == 2
    cgroup = tmp_path / "fs/cgroup"
    cgroup.mkdir(parents=True)
    for quota, cores in (
        ("max 100000", 2),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("800000 100000", 2),
    ):
        (cgroup / "cpu.max").write_text(quota + "\n")
        assert usable_cores(tmp_path) == cores
