"""Basler cameras through pylon: `basler://SERIAL`, `basler://USER_DEFINED_NAME`, `basler://IP`, or
`basler://` where there is one. Needs the extra `basler` (pypylon, which brings pylon's libraries).
"""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from edge_ad.capture.connection import BUSY, Picture
from edge_ad.capture.devices import Device
from edge_ad.capture.industrial import IndustrialSource, industrial_source
from edge_ad.capture.source import Clock, parse_uri
from edge_ad.config import Camera
from edge_ad.config.genicam import FeatureValue
from edge_ad.errors import CaptureError

_INVALID = 2**64 - 1  # a block id that is not known
_importing = threading.Lock()


def basler_source(camera: Camera, clock: Clock = time.monotonic_ns) -> IndustrialSource:
    """The camera of a `basler://` URI, not yet opened."""
    name = parse_uri(camera, {}).path.strip("/")
    return industrial_source(camera, lambda: PylonCamera(name), clock)


def list_basler() -> list[Device]:
    """The cameras that pylon finds; none where it is not installed."""
    try:
        pylon = _pylon()
    except CaptureError:
        return []
    with _said():
        found = pylon.TlFactory.GetInstance().EnumerateDevices()
    return [Device(f"basler://{one.GetSerialNumber()}", _words(one)) for one in found]


class PylonFeatures:
    """As `capture.features.Features`."""

    def __init__(self, camera: Any) -> None:
        self._nodes = camera.GetNodeMap()

    def has(self, name: str) -> bool:
        node = self._node(name)
        with _said(name):
            return node is not None and bool(_genicam().IsAvailable(node))

    def options(self, name: str) -> tuple[str, ...]:
        node = self._node(name)
        if not isinstance(node, _genicam().IEnumeration) or not self.has(name):
            return ()
        with _said(name):
            return tuple(node.GetSymbolics())

    def get(self, name: str) -> FeatureValue | None:
        node, genicam = self._existing(name), _genicam()
        if isinstance(node, genicam.ICommand):
            return None
        with _said(name):
            value: FeatureValue = node.GetValue()
        return value

    def _node(self, name: str) -> Any:
        """None, or one that is not available, where there is no such feature."""
        try:
            return self._nodes.GetNode(name)
        except _genicam().LogicalErrorException:
            return None

    def _existing(self, name: str) -> Any:
        node = self._node(name)
        if node is None or not self.has(name):
            raise CaptureError(f"it has no feature {name} as it is set; correct genicam.features")
        return node

    def set(self, name: str, value: FeatureValue) -> None:
        node, genicam = self._existing(name), _genicam()
        if isinstance(node, genicam.IFloat) and isinstance(value, int):
            value = float(value)
        with _said(name):
            if isinstance(node, genicam.ICommand):
                node.Execute()
            else:
                try:
                    node.SetValue(value)
                except (TypeError, AttributeError) as error:
                    raise CaptureError(f"{name} takes another kind of value than {value!r}") from error


class PylonCamera:
    """As `capture.connection.Connection`."""

    def __init__(self, name: str) -> None:
        """Connect. Raises CaptureError where there is no such camera, or it is taken."""
        self._pylon = _pylon()
        with _said():
            factory = self._pylon.TlFactory.GetInstance()
            self._camera = self._pylon.InstantCamera(factory.CreateDevice(_choose(factory, name)))
            self._camera.Open()
        self.features = PylonFeatures(self._camera)
        self.tick_ns = self._tick_ns()
        info = self._camera.GetDeviceInfo()
        self.address = info.GetIpAddress() if info.IsIpAddressAvailable() else ""

    def _tick_ns(self) -> float:
        if self._camera.GetDeviceInfo().GetDeviceClass() == "BaslerCamEmu":
            return 0.0  # it has no clock
        for name in ("GevTimestampTickFrequency", "TimestampTickFrequency"):
            if self.features.has(name) and (rate := self.features.get(name)):
                return 1e9 / float(rate)
        return 1.0

    def start(self, buffers: int, newest: int) -> None:
        with _said():
            self._camera.MaxNumBuffer.SetValue(buffers)
            if newest > 1:
                self._camera.OutputQueueSize.SetValue(newest)
                strategy = self._pylon.GrabStrategy_LatestImages
            elif newest:
                strategy = self._pylon.GrabStrategy_LatestImageOnly
            else:
                strategy = self._pylon.GrabStrategy_OneByOne
            self._camera.StartGrabbing(strategy)
            self._arrived = self._camera.GetGrabResultWaitObject()

    def pull(self, timeout_s: float) -> Picture | None:
        with _said():
            # RetrieveResult would wait by SIGALRM, which belongs to the whole process.
            if not self._arrived.Wait(int(timeout_s * 1000)):
                return None
            result = self._camera.RetrieveResult(0, self._pylon.TimeoutHandling_Return)
            return self._picture(result) if result.IsValid() else None

    def _picture(self, result: Any) -> Picture:
        number = result.GetBlockID()
        damaged = ""
        if not result.GrabSucceeded():
            damaged = f"{result.GetErrorDescription()} (pylon error {result.GetErrorCode():#x})"
        data = b"" if damaged else result.GetImageMemoryView()
        known, stride = (False, 0) if damaged else result.GetStride()
        return Picture(
            data=np.frombuffer(data, np.uint8),
            width=result.GetWidth(),
            height=result.GetHeight(),
            stride=stride if known else 0,
            pfnc=0 if damaged else result.GetPixelType(),
            counter=None if number == _INVALID or (damaged and not number) else number,
            ticks=result.GetTimeStamp() or None,
            skipped=result.GetNumberOfSkippedImages(),
            damaged=damaged,
            give_back=result.Release,
        )

    def trigger(self, timeout_s: float) -> None:
        with _said("TriggerSoftware"):
            end = time.monotonic() + timeout_s
            while self._camera.CanWaitForFrameTriggerReady():
                if self._camera.WaitForFrameTriggerReady(0, self._pylon.TimeoutHandling_Return):
                    break
                if time.monotonic() > end:
                    raise CaptureError(f"is not ready for a trigger within {timeout_s:g} s")
                time.sleep(0.001)
            self._camera.ExecuteSoftwareTrigger()

    def problem(self) -> str:
        with _said():
            if self._camera.IsCameraDeviceRemoved():
                return "the camera was removed; check cable and power"
            return "" if self._camera.IsGrabbing() else "pylon stopped the stream; check cable and power"

    def close(self, answers: bool = True) -> None:
        try:
            with _said():
                self._camera.StopGrabbing()
                self._camera.Close()
                self._camera.DestroyDevice()
        except CaptureError:
            self._camera = None  # a camera that is gone cannot be told so


def _choose(factory: Any, name: str) -> Any:
    found = factory.EnumerateDevices()
    fits = [one for one in found if name in _names(one)] if name else list(found)
    if len(fits) == 1:
        if not factory.IsDeviceAccessible(fits[0]):
            raise CaptureError(BUSY)
        return fits[0]
    have = ", ".join(_words(one) for one in found) or "none; check cable, power and the PC's address"
    if not fits:
        raise CaptureError(f"pylon finds no such camera; it finds {have}")
    raise CaptureError(f"pylon finds {len(fits)} cameras; write basler://SERIAL for one of {have}")


def _names(info: Any) -> set[str]:
    """What a URI may call a camera."""
    names = {info.GetSerialNumber(), info.GetUserDefinedName()}
    if info.IsIpAddressAvailable():
        names.add(info.GetIpAddress())
    return names - {""}


def _words(info: Any) -> str:
    name = f" '{info.GetUserDefinedName()}'" if info.GetUserDefinedName() else ""
    return f"{info.GetVendorName()} {info.GetModelName()} {info.GetSerialNumber()}{name}"


@contextmanager
def _said(feature: str = "") -> Iterator[None]:
    """What pylon raises, as a CaptureError of one line."""
    try:
        yield
    except _genicam().GenericException as error:
        text = re.split(r"\s*: \w*Exception thrown", str(error))[0].strip().rstrip(".")
        raise CaptureError(f"{feature}: {text}" if feature else text) from error


def _genicam() -> Any:
    _pylon()
    from pypylon import genicam

    return genicam


def _pylon() -> Any:
    """pypylon's module. Raises CaptureError where it is not installed."""
    with _importing:
        return _load()


@cache
def _load() -> Any:
    try:
        # Its generated classes are deprecated in Python's eyes; made an error there, that kills.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pypylon import pylon
    except ImportError as error:
        raise CaptureError(
            f"pypylon is not installed ({error}); pip install 'edge_ad[basler]', or make the package "
            "for the line PC with --extra basler"
        ) from error
    return pylon
