"""Published Python classes of TensorRT, as their wheels define them, and objects that can do no more.

A wheel's bindings are imported in a process of its own; nothing of them is called. Where the libraries
behind them are not there, a stub gives the few functions that they look for when they are imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BINDINGS = Path(__file__).parents[2] / ".tensorrt"
# That of JetPack 6.1 and 6.2, that of JetPack 7, and a late one. There is no wheel
# of the first for Python 3.13: there `LEFT_OUT` says so at the end of the tests.
RELEASES = ["10.3.0", "10.13.3.9", "11.4.0.106"]
LEFT_OUT = [RELEASES.pop(0)] if sys.version_info >= (3, 13) else []
# What tensorrt_bindings link against and do not call while they are imported.
STUBBED = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
LIBRARIES = tuple(
    f"lib{name}.so.{major}"
    for major in (10, 11)
    for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin")
)

_DESCRIBE = """
import importlib, inspect, json, sys
module = importlib.import_module(sys.argv[1])
classes = {}
for name, found in inspect.getmembers(module, inspect.isclass):
    members = {m: str(getattr(found, m).__doc__) for m in dir(found) if not m.startswith("_")}
    values = {n: int(v) for n, v in getattr(found, "__members__", {}).items()}
    classes[name] = {"members": members, "values": values}
print(json.dumps({"version": module.__version__, "classes": classes}))
"""


class Published:
    """A library's classes: names, members, and what the members' docstrings say of their arguments."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.version: str = described["version"]
        self.classes: dict[str, dict[str, str]] = {
            name: found["members"] for name, found in described["classes"].items()
        }
        self.values: dict[str, dict[str, int]] = {
            name: found["values"] for name, found in described["classes"].items()
        }

    def enum(self, name: str) -> Any:
        """An enum with exactly the published members."""
        members = {member: Value(member, number) for member, number in self.values[name].items()}
        return type(name, (), members)

    def object(self, name: str, /, **values: Any) -> Any:
        """An object of a published class: `values` are what its members are, or do when called."""
        return _Object(name, self.classes[name], values)


class Value(int):
    """A member of an enum."""

    name: str

    def __new__(cls, name: str, number: int) -> Value:
        value = super().__new__(cls, number)
        value.name = name
        return value


class _Object:
    def __init__(self, name: str, members: Mapping[str, str], values: dict[str, Any]) -> None:
        for member in values:
            assert member in members, f"{name} has no {member}"
        object.__setattr__(self, "_of", (name, members, values))

    def __getattr__(self, member: str) -> Any:
        name, members, values = object.__getattribute__(self, "_of")
        if member not in members:
            raise AttributeError(f"{name} has no {member}")
        value = values[member]
        return _called(f"{name}.{member}", members[member], value) if callable(value) else value

    def __setattr__(self, member: str, value: Any) -> None:
        name, members, values = object.__getattribute__(self, "_of")
        if member not in members:
            raise AttributeError(f"{name} has no {member}")
        values[member] = value


def _called(name: str, doc: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, called as one of the published signatures allows or not at all."""

    def call(*arguments: Any, **named: Any) -> Any:
        signatures = parameters(doc)
        assert any(_fits(s, len(arguments), set(named)) for s in signatures), (
            f"{name}{arguments}{named or ''}: published are {signatures}"
        )
        return function(*arguments, **named)

    return call


def parameters(doc: str) -> list[list[tuple[str, bool]]]:
    """Per overload the parameters after self, with whether each must be given."""
    found = []
    for line in doc.splitlines():
        match = re.match(r"(?:\d+\. )?\w+\((self: .*)\) -> ", line)
        if match:
            told = _split(match[1])[1:]
            found.append([(one.split(":")[0].strip(), "=" not in one) for one in told])
    return found


def _split(text: str) -> list[str]:
    """At commas that no bracket holds."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _fits(signature: list[tuple[str, bool]], positional: int, named: set[str]) -> bool:
    left = signature[positional:]
    must = {name for name, needed in left if needed}
    return positional <= len(signature) and must <= named <= {name for name, _ in left}


GetRelease = Callable[[str], Published]


def describe(module: str, path: str = "", libraries: str = "") -> Published:
    """Import `module` in a process of its own and look at its classes."""
    environment = {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": libraries}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _DESCRIBE, module],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return Published(json.loads(done.stdout))


def write_stubs(directory: Path) -> None:
    """Libraries of the names that the bindings load, whose functions end the process."""
    source = directory / "stub.cpp"
    functions = "".join(f"void {name}() {{ std::abort(); }}\n" for name in STUBBED)
    source.write_text(f'#include <cstdlib>\nextern "C" {{\n{functions}}}\n')
    command = ["g++", "-shared", "-fPIC", "-o", "stub.so", source.name]
    subprocess.run(command, cwd=directory, check=True)
    for name in LIBRARIES:
        (directory / name).symlink_to("stub.so")
