"""The bill of materials of a directory of wheels: CycloneDX 1.5, JSON.

python deploy/package/sbom.py wheels > sbom.cdx.json
"""

from __future__ import annotations

import email.message
import email.parser
import hashlib
import json
import os
import re
import sys
import time
import uuid
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRODUCT = "edge-ad"
_OPTIONAL = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")
_OSI = "License :: OSI Approved :: "


@dataclass(frozen=True)
class Wheel:
    """One package: what its METADATA says, and the sha256 of the file."""

    name: str
    version: str
    sha256: str
    about: email.message.Message

    @property
    def ref(self) -> str:
        """Its package URL, which is also its name within the bill."""
        return f"pkg:pypi/{self.name}@{self.version}"


def bill_of_materials(wheels: Path, extras: Iterable[str] = ()) -> dict[str, Any]:
    """Every wheel of a directory. `extras`: which of edge_ad's are installed."""
    found = {wheel.name: wheel for wheel in map(read_wheel, sorted(wheels.glob("*.whl")))}
    product = found.pop(PRODUCT)
    content = "".join(wheel.sha256 for wheel in (product, *found.values()))
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            "component": _component(product, "application"),
        },
        "components": [_component(wheel, "library") for wheel in found.values()],
        "dependencies": [
            {
                "ref": wheel.ref,
                "dependsOn": [
                    found[name].ref
                    for name in _needed(wheel, extras if wheel is product else ())
                    if name in found
                ],
            }
            for wheel in (product, *found.values())
        ],
    }


def read_wheel(path: Path) -> Wheel:
    """Raises ValueError for a file that is none."""
    with zipfile.ZipFile(path) as archive:
        metadata = [
            name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        ]
        if len(metadata) != 1:
            raise ValueError(f"{path}: is no wheel: {len(metadata)} files METADATA")
        about = email.parser.Parser().parsestr(archive.read(metadata[0]).decode("utf-8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(_normal(about["Name"]), about["Version"], digest, about)


def _component(wheel: Wheel, kind: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind,
        "bom-ref": wheel.ref,
        "name": wheel.name,
        "version": wheel.version,
        "purl": wheel.ref,
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
    }
    if wheel.about["Summary"]:
        component["description"] = wheel.about["Summary"]
    licenses = _licenses(wheel.about)
    return component | ({"licenses": licenses} if licenses else {})


def _licenses(about: email.message.Message) -> list[dict[str, Any]]:
    """As the package says it: by an expression, its classifiers, or in a few words."""
    if about["License-Expression"]:
        return [{"expression": about["License-Expression"]}]
    named = [c.removeprefix(_OSI) for c in about.get_all("Classifier", []) if c.startswith(_OSI)]
    short = (about["License"] or "").strip()
    if not named and short and len(short) <= 80 and "\n" not in short:
        named = [short]
    return [{"license": {"name": name}} for name in named]


def _needed(wheel: Wheel, extras: Iterable[str]) -> list[str]:
    """Names of what it requires, with those of its extras that are installed."""
    wanted, names = set(extras), set()
    for line in wheel.about.get_all("Requires-Dist", []):
        optional = set(_OPTIONAL.findall(line))
        if not optional or optional & wanted:
            names.add(_normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]))
    return sorted(names)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    json.dump(bill_of_materials(Path(sys.argv[1]), sys.argv[2:]), sys.stdout, indent=1)
