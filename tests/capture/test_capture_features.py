"""What a camera is set to: in order, with selectors, and read back."""

from __future__ import annotations

from typing import Any

import pytest

from edge_ad.capture.features import AUTOMATIC, configure
from edge_ad.config.genicam import FeatureValue, Genicam
from edge_ad.errors import CaptureError


class Made:
    """Features of a camera that keeps what it is told, but for what `keeps` says."""

    def __init__(self, values: dict[str, Any], keeps: dict[str, Any] | None = None) -> None:
        self.values = {"TriggerSelector": "FrameStart", **values}
        self.keeps = keeps or {}
        self.written: list[tuple[str, FeatureValue]] = []
        self.triggers = {"FrameStart": "Off", "FrameBurstStart": "On", "LineStart": "Off"}

    def has(self, name: str) -> bool:
        return name in self.values or name in ("TriggerMode", "TriggerSource", "TriggerSelector")

    def options(self, name: str) -> tuple[str, ...]:
        return tuple(self.triggers) if name == "TriggerSelector" else ()

    def get(self, name: str) -> FeatureValue | None:
        if name == "TriggerMode":
            return self.triggers[self.values["TriggerSelector"]]
        return self.values.get(name, "")  # type: ignore[no-any-return]

    def set(self, name: str, value: FeatureValue) -> None:
        self.written.append((name, value))
        if name == "TriggerMode":
            self.triggers[self.values["TriggerSelector"]] = str(value)
        self.values[name] = self.keeps.get(name, value)


def test_order_is_that_of_the_file_and_automatic_functions_are_off_before() -> None:
    camera = Made({"ExposureAuto": "Continuous", "GainAuto": "Off", "Width": 9, "OffsetX": 5, "B": 0})
    features = {"OffsetX": 0, "Width": 100, "B": 1}
    configure(camera, Genicam(features=features), "auto")
    written = [one for one in camera.written if not one[0].startswith("Trigger")]
    assert written == [("ExposureAuto", "Off"), ("OffsetX", 0), ("Width", 100), ("B", 1)]
    assert set(AUTOMATIC) >= {"ExposureAuto", "GainAuto", "BalanceWhiteAuto"}


def test_triggers_of_another_program_are_off_and_the_lines_is_on() -> None:
    camera = Made({"TriggerActivation": "RisingEdge"})
    configure(camera, Genicam(), "auto")
    assert set(camera.triggers.values()) == {"Off"}
    features: dict[str, FeatureValue] = {"TriggerMode[TriggerSelector=LineStart]": "On"}
    configure(camera, Genicam(trigger="Line1", activation="FallingEdge", features=features), "auto")
    assert camera.triggers == {"FrameStart": "On", "FrameBurstStart": "Off", "LineStart": "On"}
    assert (camera.values["TriggerSource"], camera.values["TriggerActivation"]) == (
        "Line1",
        "FallingEdge",
    )


def test_a_value_with_a_selector_is_written_and_read_under_it() -> None:
    camera = Made({"BalanceRatioSelector": "Green", "BalanceRatio": 1.0, "A": 1, "B": 2})
    features = {
        "BalanceRatio[BalanceRatioSelector=Red]": 1.5,
        "BalanceRatio[BalanceRatioSelector=Blue,A=B3]": 1.5,
    }
    configure(camera, Genicam(features=features), "auto")
    selected = [one for one in camera.written if one[0] in ("BalanceRatioSelector", "A")]
    red, blue = ("BalanceRatioSelector", "Red"), ("BalanceRatioSelector", "Blue")
    assert selected == [red, blue, ("A", "B3"), red, blue, ("A", "B3")]


@pytest.mark.parametrize(
    ("wanted", "kept", "agrees"),
    [
        (5000.0, 5012.0, True),  # rounded to the sensor's line time
        (5000, 4996.5, True),
        (5000.0, 5100.0, False),
        (0.0, 0.1, False),
        (640, 644, False),  # a count is no measure
        (True, False, False),
        ("Line2", "Line1", False),
    ],
)
def test_what_a_camera_makes_of_a_value(wanted: Any, kept: Any, agrees: bool) -> None:
    camera = Made({"X": type(kept)()}, {"X": kept})
    camera.values["X"] = None if agrees else "before"
    settings = Genicam(features={"X": wanted})
    if agrees:
        configure(camera, settings, "auto")
        return
    with pytest.raises(CaptureError, match=f"X is {kept!r} after it was set to {wanted!r}; set it to"):
        configure(camera, settings, "auto")


def test_an_automatic_function_that_appears_with_a_feature_is_off_too() -> None:
    class Late(Made):
        """Exposure is automatic, which shows only in this mode."""

        def has(self, name: str) -> bool:
            return super().has(name) and (
                name != "ExposureAuto" or self.values["ExposureMode"] == "Timed"
            )

    values = {"ExposureMode": "TriggerWidth", "ExposureAuto": "Continuous"}
    camera = Late(dict(values))
    configure(camera, Genicam(features={"ExposureMode": "Timed"}), "auto")
    assert camera.values["ExposureAuto"] == "Off"
    stubborn = Late(dict(values), {"ExposureAuto": "Continuous"})
    with pytest.raises(CaptureError, match="ExposureAuto stays 'Continuous'; name it in"):
        configure(stubborn, Genicam(features={"ExposureMode": "Timed"}), "auto")
