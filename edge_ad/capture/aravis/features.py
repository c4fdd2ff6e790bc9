"""The features of a camera that Aravis holds, as `capture.features.Features`."""

from __future__ import annotations

from ctypes import byref, c_uint
from typing import Any

from edge_ad.capture.aravis.library import RANGE_CHECK, aravis, checked
from edge_ad.config.genicam import FeatureValue
from edge_ad.errors import CaptureError

# In this order: an enumeration is an integer too.
_KINDS = ("command", "enumeration", "boolean", "float", "integer", "string")


class AravisFeatures:
    """Features of a device, which must outlive it. Thread safe as Aravis is."""

    def __init__(self, device: Any) -> None:
        self._arv = aravis()
        self._device = device
        self._arv.arv_device_set_range_check_policy(device, RANGE_CHECK)

    def has(self, name: str) -> bool:
        if self._kind(name) == "":
            return False
        available = self._call("arv_device_is_feature_available", name)
        return bool(available)

    def options(self, name: str) -> tuple[str, ...]:
        if self._kind(name) != "enumeration" or not self.has(name):
            return ()
        count = c_uint()
        names = self._call(
            "arv_device_dup_available_enumeration_feature_values_as_strings", name, byref(count)
        )
        found = tuple(names[i].decode() for i in range(count.value))
        self._arv.g_free(names)
        return found

    def get(self, name: str) -> FeatureValue | None:
        kind = self._existing(name)
        if kind == "command":
            return None
        if kind in ("enumeration", "string"):
            value = self._call("arv_device_get_string_feature_value", name)
            return "" if value is None else str(value.decode(errors="replace"))
        value = self._call(f"arv_device_get_{kind}_feature_value", name)
        return bool(value) if kind == "boolean" else float(value) if kind == "float" else int(value)

    def set(self, name: str, value: FeatureValue) -> None:
        kind = self._existing(name)
        if kind == "command":
            self._call("arv_device_execute_command", name)
            return
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = {"enumeration": str, "string": str, "boolean": bool, "integer": int}
        if kind == "float":
            fitting = number
        else:
            fitting = isinstance(value, fits[kind]) and (kind != "integer" or number)
        if not fitting:
            raise CaptureError(f"{name} takes another kind of value than {value!r}")
        if kind in ("enumeration", "string"):
            self._call("arv_device_set_string_feature_value", name, str(value).encode())
        else:
            self._call(f"arv_device_set_{kind}_feature_value", name, value)

    def _kind(self, name: str) -> str:
        """One of the kinds, "" where there is no such feature."""
        node = self._arv.arv_device_get_feature(self._device, name.encode())
        for kind in _KINDS if node else ():
            of_kind = getattr(self._arv, f"arv_gc_{kind}_get_type")()
            if self._arv.g_type_check_instance_is_a(node, of_kind):
                return kind
        return ""

    def _existing(self, name: str) -> str:
        kind = self._kind(name)
        if not kind:
            raise CaptureError(f"it has no feature {name}; correct genicam.features")
        return kind

    def _call(self, function: str, name: str, *arguments: Any) -> Any:
        try:
            return checked(getattr(self._arv, function), self._device, name.encode(), *arguments)
        except CaptureError as error:
            raise CaptureError(f"{name}: {error}") from error
