from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edge_ad.cli import init
from edge_ad.cli.init_gate import GATE_TEMPLATE
from edge_ad.config.gate import Gate, load_gate, parse_gate
from edge_ad.config.local import tomllib
from edge_ad.errors import ConfigError

# Without a default: the template has an example instead.
EXAMPLES = {"schema", "station", "source.name", "source.endpoint", "belt.travel_ms", "present.uri",
            "output.uri"}  # fmt: skip


def flat(data: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0]
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def defaults(struct: type[msgspec.Struct], prefix: str = "") -> dict[str, object]:
    import typing

    found: dict[str, object] = {}
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        kind = hints[field.name]
        inner = next((t for t in (kind, *typing.get_args(kind)) if _is_struct(t)), None)
        if inner is not None:
            found |= defaults(inner, f"{prefix}{field.name}.")
        elif field.name != "path":
            found[prefix + field.name] = field.default
    return found


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def test_the_file_as_written_is_valid_and_every_key_is_there_with_its_true_default(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gate.toml"
    assert CliRunner().invoke(init.command, ["--gate", "-o", str(path)]).exit_code == 0
    load_gate(path)
    shown = flat(tomllib.loads(re.sub(r"^#(?=\S)", "", GATE_TEMPLATE, flags=re.M)))
    real = defaults(Gate) | {"metrics.port": 9571}
    assert set(shown) == set(real)
    assert {k: (v, real[k]) for k, v in shown.items() if k not in EXAMPLES and v != real[k]} == {}


def gate(**changes: object) -> dict[str, object]:
    data = tomllib.loads(GATE_TEMPLATE)
    for key, value in changes.items():
        table, _, name = key.partition("__")
        if name:
            data[table][name] = value
        else:
            data[table] = value
    return data


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"belt__travel_counts": 5}, "belt.travel_counts"),
        ({"belt__travel_ms": 0.0}, "neither"),
        ({"belt__before": 800.0}, "belt.before"),
        ({"belt__travel_ms": 0.0, "belt__travel_counts": 99, "belt__after": 1.5}, "whole counts"),
        ({"identity__key": "time"}, "identity.match_ms"),
        ({"identity__key": "time", "identity__match_ms": 5.0, "identity__link_loss": "keep"}, "keys"),
        ({"identity__key": "order"}, "identity.key"),
        ({"present__uri": ""}, "present.uri"),
        ({"confirm__what": "reject"}, "confirm.uri"),
        ({"source": []}, "source"),
        ({"source": [{"name": "a", "endpoint": "ipc://x", "required": False}]}, "none is required"),
        ({"source": [{"name": "a", "endpoint": "ipc://x"}] * 2}, "used twice"),
        ({"source": [{"name": "a", "endpoint": "ipc://x", "lost_ms": 900.0}]}, "two heartbeats"),
        ({"beltt": {}}, "beltt"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=f"gate.toml.*{says}"):
        parse_gate(gate(**changes), "gate.toml")


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init --gate"):
        load_gate(tmp_path / "gate.toml")
