"""Bundles in words and in JSON, for the command line."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from edge_ad.bundle.manifest import REPORT, Manifest, Screening, Section
from edge_ad.bundle.qualification import (
    QUALIFICATION,
    Detected,
    Detection,
    Measured,
    Repeatability,
    read_detection,
)
from edge_ad.bundle.read import Bundle
from edge_ad.bundle.store import Entry
from edge_ad.bundle.views import jitter_texts, view_texts, zone_texts
from edge_ad.gaussian.threshold import Promise, percent, promise_text

NOT_MEASURED = "detection not measured"
LISTED = 10  # suspects in one line


def profile_text(manifest: Manifest) -> str:
    """Which profile, and where it looks."""
    local = manifest.local
    if local is None:
        return f"{manifest.profile}: pooled levels alone, no map"
    return (
        f"{manifest.profile}: pooled levels and {local.rows} x {local.columns} positions "
        f"{'a tile ' if len(manifest.tiles) > len(manifest.views) else ''}of {local.dim} features "
        f"(levels {', '.join(local.levels)})"
    )


def percent_down(share: float) -> str:
    """A share in per cent, rounded down to one decimal: what was nearly reached is not claimed."""
    return f"{math.floor(1000 * share + 1e-9) / 10:g} %"


def escapes_text(one: Detected) -> str:
    """The largest share of bad parts that passes, with 95 % confidence; rounded up."""
    return f"{math.ceil(1000 * (1 - one.confident) - 1e-9) / 10:g} %"


def detection_text(detection: Detection, key: str) -> str:
    """What is known of the escapes of the engine `key`, in one line."""
    if detection.problem:
        return f"{NOT_MEASURED}: qualification is damaged: {detection.problem}"
    measured = detection.engines.get(key)
    if measured is None:
        return NOT_MEASURED
    kinds = f" of {len(measured.kinds)} kinds" if len(measured.kinds) > 1 else ""
    return f"{measured.overall.parts} known-bad parts{kinds}: {detected_text(measured.overall)}"


def detected_text(one: Detected) -> str:
    """Measured rate, its bound, and what did not become a REJECT."""
    missed = f"; {one.missed} missed" if one.missed else ""
    faults = f"; {one.faults} FAULT (not passed, not detected)" if one.faults else ""
    return (
        f"{percent_down(one.rate)} detected, at least {percent_down(one.confident)} with 95 % "
        f"confidence{missed}{faults}"
    )


def repeatability_text(spread: Repeatability) -> str:
    """How the scores of one part spread."""
    nearest = (
        f"; the nearest part is {spread.nearest:.1f} sd from the threshold"
        if spread.nearest is not None
        else ""
    )
    return (
        f"{spread.pictures} pictures of {len(spread.parts)} parts: sd {spread.sd:.3g}{nearest}; "
        f"{spread.differ} verdicts differ"
    )


def screening_lines(screening: Screening | None) -> list[tuple[str, str]]:
    """What screening found and did, and the promise if that was wrong; [] where it found nothing."""
    if screening is None:
        return []
    lines = []
    if screening.suspects:
        lines.append(("suspects", f"{suspects_text(screening)}: {_ids(screening)}"))
    if screening.as_good is not None:
        lines.append(("", as_good_text(screening.dropped, screening.as_good)))
    return lines


def declared_lines(section: Section) -> list[tuple[str, str]]:
    """What became of the parts that a person declared good; [] where there are none."""
    n, limit = len(section.declared), section.threshold
    if not n:
        return []
    lines = [f"{n} part{'s' if n > 1 else ''} declared good by a person, fitted but not in the promise"]
    above = {i: one.score / limit for i, one in section.declared.items() if one.score > limit}
    alone = {
        i: one.left_out / limit
        for i, one in section.declared.items()
        if one.score <= limit < one.left_out
    }
    if above:
        lines.append(
            f"{len(above)} of them still above the threshold, such a part would be rejected again: "
            f"{_ratios(above)}; give more like them (--from-evidence IDS, --add DIR), or --drop IDS"
        )
    if alone:
        lines.append(
            f"{len(alone)} of them below it only because the fit knows them, the next one like them may "
            f"be rejected: {_ratios(alone)} without it; give more like them"
        )
    return [("" if i else "declared", text) for i, text in enumerate(lines)]


def _ratios(parts: dict[str, float]) -> str:
    """Ids with score / threshold, the highest first."""
    worst = sorted(parts.items(), key=lambda item: -item[1])
    more = f" and {len(worst) - LISTED} more" if len(worst) > LISTED else ""
    return ", ".join(f"{part} ({ratio:.3g} times)" for part, ratio in worst[:LISTED]) + more


def suspects_text(screening: Screening) -> str:
    """How many, what became of them, and the gap they were found by."""
    n = len(screening.suspects)
    what = "dropped" if screening.mode == "drop" else "listed, not dropped"
    return (
        f"{n} part{'s' if n > 1 else ''} {what}: at least {screening.gap:.3g} times as far above the "
        f"median score as the upper quartile, where {screening.expected:.1g} would lie if all were good"
    )


def as_good_text(dropped: int, promise: Promise) -> str:
    """The promise, should the dropped parts have been good."""
    return (
        f"if the {dropped} parts dropped by screening were good: {percent(promise.expected)} false "
        f"rejects expected, at most {percent(promise.confident)} with 95 % confidence"
    )


def _ids(screening: Screening) -> str:
    worst = sorted(screening.suspects.items(), key=lambda item: -item[1].gap)
    more = f" and {len(worst) - LISTED} more" if len(worst) > LISTED else ""
    return ", ".join(f"{part} ({one.gap:.3g})" for part, one in worst[:LISTED]) + more


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
    detection = read_detection(entry.path)
    escapes = ", ".join(dict.fromkeys(_rate(detection, key) for key in manifest.engines))
    state = "  active" if entry.active else "  previous" if entry.previous else ""
    state += "  shadow" if entry.candidate else ""
    return (
        f"{mark} {entry.id}  {manifest.counts.get('parts', 0)} parts  {manifest.backbone.name}  "
        f"{sections}  {escapes}{state}"
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
        manifest, detection = entry.manifest, read_detection(entry.path)
        summary |= {
            "created": manifest.created,
            "parts": manifest.counts.get("parts", 0),
            "backbone": manifest.backbone.name,
            "engines": {key: section.threshold for key, section in manifest.engines.items()},
            "detection": {key: _numbers(detection, key) for key in manifest.engines},
        }
    return summary


def _rate(detection: Detection, key: str) -> str:
    measured = detection.engines.get(key)
    if measured is None:
        return NOT_MEASURED + (" (damaged)" if detection.problem else "")
    return f"{percent_down(measured.overall.rate)} of {measured.overall.parts} bad parts detected"


def _numbers(detection: Detection, key: str) -> dict[str, Any]:
    """Of an engine, for JSON: in words, and the rates where they were measured."""
    numbers: dict[str, Any] = {"text": detection_text(detection, key)}
    if key in detection.engines:
        measured = detection.engines[key]
        numbers |= {
            "overall": msgspec.to_builtins(measured.overall),
            "kinds": msgspec.to_builtins(measured.kinds),
        }
    return numbers


def bundle_summary(bundle: Bundle) -> dict[str, Any]:
    """`bundle show --json`: the manifest, and what is not in it."""
    return {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "detection": {key: _numbers(bundle.detection, key) for key in bundle.manifest.engines},
        "qualification": msgspec.to_builtins(bundle.detection.engines),
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
        *(("placing " + name, text) for name, text in jitter_texts(manifest)),
        *(("view " + name, text) for name, text in view_texts(manifest)),
        *(("zone " + name, text) for name, text in zone_texts(manifest)),
        ("profile", profile_text(manifest)),
        ("levels", ", ".join(level.name for level in manifest.levels)),
        ("counts", counts),
        ("kept set", manifest.calibration_set.sha256),
    ]
    for key, section in manifest.engines.items():
        lines += _section_lines(key, section)
        lines += _detection_lines(bundle.detection, key)
    lines.append(("report", str(bundle.path / REPORT)))
    if bundle.detection.engines:
        lines.append(("escapes", str(bundle.path / QUALIFICATION / REPORT)))
    return [f"{name:<12} {text}" for name, text in lines]


def _section_lines(key: str, section: Section) -> list[tuple[str, str]]:
    identity = section.identity
    lines = [
        (key, identity.text),
        ("  threshold", f"{section.threshold:.6g} ({section.promise.method})"),
        ("  promise", promise_text(section.promise)),
        *((f"  {name}", text) for name, text in declared_lines(section)),
        *((f"  {name}", text) for name, text in screening_lines(section.screening)),
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


def _detection_lines(detection: Detection, key: str) -> list[tuple[str, str]]:
    lines = [("  detection", detection_text(detection, key))]
    measured: Measured | None = detection.engines.get(key)
    if measured is None:
        return lines
    if len(measured.kinds) > 1:
        lines += [
            ("", f"{kind}: {one.parts} parts: {detected_text(one)}")
            for kind, one in measured.kinds.items()
        ]
    if measured.repeatability is not None:
        lines.append(("  repeated", repeatability_text(measured.repeatability)))
    return lines
