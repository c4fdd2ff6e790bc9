"""Bundles in words and in JSON, for the command line."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_ad.bundle.manifest import Section
from edge_ad.bundle.read import Bundle
from edge_ad.bundle.store import Entry
from edge_ad.gaussian.threshold import percent, promise_text

NOT_MEASURED = "detection not measured"


def entry_line(entry: Entry) -> str:
    """One line of `bundle list`."""
    mark = "*" if entry.active else "<" if entry.previous else " "
    if entry.manifest is None:
        return f"{mark} {entry.id}  refused: {entry.problem}"
    manifest = entry.manifest
    sections = ", ".join(
        f"{key} (threshold {section.threshold:.5g}, {percent(section.promise.expected)} expected)"
        for key, section in manifest.engines.items()
    )
    state = "  active" if entry.active else "  previous" if entry.previous else ""
    return (
        f"{mark} {entry.id}  {manifest.counts.get('parts', 0)} parts  {manifest.backbone.name}  "
        f"{sections}{state}"
    )


def entry_summary(entry: Entry) -> dict[str, Any]:
    """One element of `bundle list --json`."""
    summary: dict[str, Any] = {
        "id": entry.id,
        "path": str(entry.path),
        "active": entry.active,
        "previous": entry.previous,
        "problem": entry.problem,
    }
    if entry.manifest is not None:
        manifest = entry.manifest
        summary |= {
            "created": manifest.created,
            "parts": manifest.counts.get("parts", 0),
            "backbone": manifest.backbone.name,
            "engines": {key: section.threshold for key, section in manifest.engines.items()},
            "detection": NOT_MEASURED,
        }
    return summary


def bundle_summary(bundle: Bundle) -> dict[str, Any]:
    """`bundle show --json`: the manifest, and what is not in it."""
    return {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "detection": NOT_MEASURED,
        "manifest": msgspec.to_builtins(bundle.manifest),
    }


def bundle_lines(bundle: Bundle) -> list[str]:
    """`bundle show`."""
    manifest = bundle.manifest
    rule = manifest.preprocess
    counts = ", ".join(f"{count} {what}" for what, count in manifest.counts.items() if count)
    cameras = ", ".join(
        f"{name} ({c.pixel_rule}, "
        + (f"{c.width} x {c.height})" if c.frame_size == "fixed" else "any size)")
        for name, c in rule.cameras.items()
    )
    lines = [
        ("bundle", manifest.id),
        ("path", str(bundle.path)),
        ("sha256", bundle.sha256),
        ("product", manifest.product),
        ("created", f"{manifest.created} by edge_ad {manifest.edge_ad}"),
        ("backbone", f"{manifest.backbone.name} {manifest.backbone.sha256}"),
        ("preprocess", f"{rule.rule} to {rule.width} x {rule.height}"),
        ("cameras", cameras),
        ("views", ", ".join(view.name for view in manifest.views)),
        ("levels", ", ".join(level.name for level in manifest.levels)),
        ("counts", counts),
        ("kept set", manifest.calibration_set.sha256),
    ]
    for key, section in manifest.engines.items():
        lines += _section_lines(key, section)
    lines += [("detection", NOT_MEASURED), ("report", str(bundle.path / "report.html"))]
    return [f"{name:<12} {text}" for name, text in lines]


def _section_lines(key: str, section: Section) -> list[tuple[str, str]]:
    identity = section.identity
    lines = [
        (key, f"{identity.runtime} on {identity.device}"),
        ("  threshold", f"{section.threshold:.6g} ({section.promise.method})"),
        ("  promise", promise_text(section.promise)),
    ]
    if section.chi2 is not None:
        chi2 = section.chi2
        lines.append(
            (
                "  chi2",
                f"{chi2.threshold:.6g} for {chi2.k} dimensions; {percent(chi2.observed)} of the parts "
                "exceed it",
            )
        )
    return lines
