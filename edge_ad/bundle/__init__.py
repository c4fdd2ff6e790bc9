"""The calibration bundle: an immutable directory with everything that turns features into verdicts.

    STATE/bundles/<product>/<bundle-id>/   manifest.json  manifest.sha256  gaussian.safetensors
                                           reference/*.png  report.html  qualification/
    STATE/bundles/<product>/current        symlink to the bundle in use, swapped by rename
    STATE/bundles/<product>/previous       symlink to the one before, for one-command rollback
    STATE/bundles/<product>/candidate      symlink to the bundle that judges beside it, where one does
    STATE/backbones/<sha256>/              backbone.onnx  backbone.json, so that a bundle loads offline

`manifest.json` holds the sha256 of every other file and `manifest.sha256` that of the manifest (it can
be checked with `sha256sum -c`); only the qualification, which is measured later, is verified on its own.
Nothing in a bundle is ever unpickled.
"""

from __future__ import annotations

from edge_ad.bundle.looks import GoodLooks
from edge_ad.bundle.manifest import (
    BackboneRef,
    CalibrationSetRef,
    CameraRule,
    Chi2,
    DeclaredPart,
    Jitter,
    LevelFit,
    LocalFit,
    LocateRule,
    Manifest,
    Preprocess,
    ReductionRef,
    Screening,
    Section,
    Suspect,
    Tile,
    ViewRule,
    ZoneRule,
    all_tiles,
)
from edge_ad.bundle.read import Bundle, kept_set_sha256, open_bundle, read_manifest
from edge_ad.bundle.store import (
    Entry,
    activate,
    bundle_id,
    candidate_path,
    current_path,
    list_bundles,
    previous_path,
    rollback,
    shadow,
    store_backbone,
    write_bundle,
)
from edge_ad.bundle.tensors import (
    LOCAL,
    level_fits,
    level_head,
    level_tensors,
    local_fit,
    local_head,
    local_tensors,
    map_maker,
    tensor_name,
    tile_scale,
)

__all__ = [
    "LOCAL",
    "BackboneRef",
    "Bundle",
    "CalibrationSetRef",
    "CameraRule",
    "Chi2",
    "DeclaredPart",
    "Entry",
    "GoodLooks",
    "Jitter",
    "LevelFit",
    "LocalFit",
    "LocateRule",
    "Manifest",
    "Preprocess",
    "ReductionRef",
    "Screening",
    "Section",
    "Suspect",
    "Tile",
    "ViewRule",
    "ZoneRule",
    "activate",
    "all_tiles",
    "bundle_id",
    "candidate_path",
    "current_path",
    "kept_set_sha256",
    "level_fits",
    "level_head",
    "level_tensors",
    "list_bundles",
    "local_fit",
    "local_head",
    "local_tensors",
    "map_maker",
    "open_bundle",
    "previous_path",
    "read_manifest",
    "rollback",
    "shadow",
    "store_backbone",
    "tensor_name",
    "tile_scale",
    "write_bundle",
]
