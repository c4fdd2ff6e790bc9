"""Which bundles' frames a GPU prepares, and what is said of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from preprocess_emulator import View

from edge_ad.bundle.frames import gpu_frames
from edge_ad.errors import ConfigError
from edge_ad.preprocess.cuda import frames as frames_module


def bundle(view: View, **rule: Any) -> Any:
    """One camera and one view."""
    fixed = {"frame_size": "fixed", "width": 80, "height": 60, "channels": 1, "locate": None}
    preprocess = SimpleNamespace(
        cameras={view.camera: SimpleNamespace(**fixed | rule)}, height=8, width=10
    )
    return SimpleNamespace(
        manifest=SimpleNamespace(id="b1", preprocess=preprocess, views=[view], zones={}, local=None)
    )


@pytest.mark.parametrize("locate", [None, object()], ids=["as it is", "laid straight"])
def test_a_plan_is_made_without_a_word(locate: object, caplog: pytest.LogCaptureFixture) -> None:
    plan = gpu_frames(bundle(View(), locate=locate))
    assert plan is not None
    assert (plan.frame_sizes, plan.rows) == ((4800,), 1)
    assert caplog.messages == []


def test_frames_of_any_size_are_the_cpus(caplog: pytest.LogCaptureFixture) -> None:
    assert gpu_frames(bundle(View(), frame_size="any", width=0, height=0)) is None
    (told,) = caplog.messages
    assert told == "bundle b1: the CPU prepares the GPU's frames: camera top has frames of any size"


def test_parts_that_only_this_opencv_lays_straight_are_the_cpus(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(frames_module, "installed_arithmetic", lambda: None)
    assert gpu_frames(bundle(View(), locate=object())) is None
    (told,) = caplog.messages
    assert told.startswith("bundle b1: the CPU prepares the GPU's frames: camera top: this OpenCV lays")


def test_whatever_else_is_wrong_is_told() -> None:
    with pytest.raises(ConfigError, match=r"view front: roi .* is outside of 80 x 60 px"):
        gpu_frames(bundle(View(roi=(1, 0, 80, 60))))
