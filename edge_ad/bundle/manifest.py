"""What a bundle says of itself: `manifest.json` as frozen structs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.spec import Level, Local
from edge_ad.bundle.looks import GoodLooks, check_distances, check_good, check_looks
from edge_ad.config import PAPER, Profile, Roi, Screen
from edge_ad.errors import ArtifactError
from edge_ad.gaussian.threshold import Promise
from edge_ad.gaussian.view import Combination
from edge_ad.gaussian.zones import PatchFit, ZoneScale
from edge_ad.preprocess import tile_names
from edge_ad.preprocess.tiles import WHOLE

SCHEMA = 1
MANIFEST = "manifest.json"
MANIFEST_SHA = "manifest.sha256"
TENSORS = "gaussian.safetensors"
REPORT = "report.html"
REFERENCE = "reference"
ZONES = "zones"  # a label image per camera that has zones
LOCATE = "locate"  # a picture per camera that locates
RESTORE = "restore the bundle from a copy, 'edge-ad bundle rollback', or calibrate again"
_Count = Annotated[int, Meta(ge=1)]
# msgspec leaves a text that is not UTF-8 to Python.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError)


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are refused: what a reader does not know it cannot honour."""


class BackboneRef(_Struct, frozen=True):
    """The network that the statistics belong to; sha256 is that of `backbone.onnx`."""

    name: str
    sha256: str


class Jitter(_Struct, frozen=True):
    """How the good parts of a camera lie, against one of them: 95 % of `parts` are at most `shift`
    pixels and `angle` degrees from their median; `quality`: the lowest of 95 %."""

    parts: int
    shift: float
    angle: float
    quality: float


class LocateRule(_Struct, frozen=True):
    """How a camera's part is found; see `config.Locate`. `reference` is the file of the part that others
    are laid like, `box` the region of it that is looked for; `shot`: the picture that the part lies as
    in, empty where it is found in this one."""

    max_shift: float
    max_angle: float
    max_scale: float
    min_quality: float
    max_outside: float
    box: Roi
    reference: str
    shot: str = ""


class CameraRule(_Struct, frozen=True):
    """What a camera's frames must look like; width and height hold for "fixed" frames only."""

    pixel_rule: str
    frame_size: Literal["fixed", "any"]
    width: int
    height: int
    channels: Literal[1, 3]
    locate: LocateRule | None = None
    jitter: Jitter | None = None
    px_per_mm: Annotated[float, Meta(ge=0)] = 0.0  # 0: not known
    looks: GoodLooks | None = None  # null for frames of any size


class Preprocess(_Struct, frozen=True):
    """How a frame becomes network input; cameras are in the order of a part's images."""

    rule: str
    height: Annotated[int, Meta(ge=1)]
    width: Annotated[int, Meta(ge=1)]
    cameras: dict[str, CameraRule]


class ViewRule(_Struct, frozen=True):
    """A scored region of one camera's frame; roi is x, y, width, height in frame pixels, tiles rows and
    columns of network inputs that neighbours share at least `overlap` frame pixels of."""

    name: str
    camera: str
    roi: Roi | None = None
    tiles: tuple[_Count, _Count] = WHOLE
    overlap: Annotated[int, Meta(ge=0)] = 0


class Tile(NamedTuple):
    """A tile by its view, its place among the view's tiles (row by row), and its name."""

    view: ViewRule
    place: int
    name: str


def all_tiles(views: Iterable[ViewRule]) -> list[Tile]:
    """The tiles of the views, in the order of an engine's rows."""
    return [
        Tile(view, place, name)
        for view in views
        for place, name in enumerate(tile_names(view.name, view.tiles))
    ]


class ZoneRule(_Struct, frozen=True):
    """A zone: pixels of `value` in its camera's label image. See `config.Zone`."""

    name: str
    camera: str
    value: Annotated[int, Meta(ge=1, le=255)]
    kind: Literal["ignore", "inspect"]
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    min_area: Annotated[float, Meta(ge=0)] = 0.0
    allow: Annotated[int, Meta(ge=0)] = 0
    allow_area: Annotated[float, Meta(ge=0)] = 0.0


class ReductionRef(_Struct, frozen=True):
    """Which principal components were kept: "none", "pca" or "npca", and the share of variance."""

    kind: Literal["none", "pca", "npca"]
    share: float


class CalibrationSetRef(_Struct, frozen=True):
    """The kept set that was fitted: sha256 of its list, and how many parts were used."""

    sha256: str
    parts: int


class LevelFit(_Struct, frozen=True):
    """How well one Gaussian is determined: dimensions kept, Ledoit-Wolf shrinkage, condition number."""

    name: str
    k: int
    shrinkage: float
    condition: float


class LocalFit(_Struct, frozen=True):
    """The Gaussians of a tile's positions: rows k of their whitening factors, q regressors made of a
    coarse view of so many cells, weights of a sphere and of neighbouring positions in their shrinkage;
    and how level distances and cells become one score, and those of zones in it scores of their own."""

    k: Annotated[int, Meta(ge=1)]
    q: Annotated[int, Meta(ge=0)]
    coarse: Annotated[int, Meta(ge=1)]
    shrinkage: float
    shared: float
    combination: Combination
    patches: list[PatchFit] = []


class Chi2(_Struct, frozen=True):
    """The paper's threshold, sqrt of the chi-squared quantile of k dimensions; for one level only."""

    threshold: float
    k: int
    rate: float
    observed: float  # share of the good parts whose out-of-sample distance exceeds it


class Suspect(_Struct, frozen=True, kw_only=False):
    """A part that is separated from the rest: its score by a fit without the suspects, and its gap."""

    score: float
    gap: float


class Screening(_Struct, frozen=True):
    """What screening found: suspects by part id, the lowest one's gap, how many good parts would lie
    beyond it (0 where there is none). `mode` says whether the suspects were dropped; `dropped` counts
    those and the ones dropped from the kept set before, `as_good` is the promise if all were good."""

    mode: Screen
    suspects: dict[str, Suspect]
    gap: float
    expected: float
    dropped: int
    as_good: Promise | None


class DeclaredPart(_Struct, frozen=True, kw_only=False):
    """A part that a person declared good: its score as the inspector sees it now, and by a fit without
    it, which is what another part like it may get."""

    score: float
    left_out: float


class Section(_Struct, frozen=True):
    """Everything that belongs to one engine. `scales` has one entry per tile, view after view, `levels`
    per tile a list; `local` has one entry per tile where the manifest's `local` is not null; `declared`
    has the parts, by id, that are fitted without being a random sample."""

    identity: EngineIdentity
    scales: list[float]
    threshold: float
    promise: Promise
    levels: list[list[LevelFit]]
    reference_scores: dict[str, float]
    chi2: Chi2 | None = None
    local: list[LocalFit] = []
    zones: list[ZoneScale] = []  # the rest, then each zone that has a share; empty where none has
    screening: Screening | None = None
    declared: dict[str, DeclaredPart] = {}
    good_scores: list[float] = []  # of the sample, each by a fit without the part, in order
    good_distances: dict[str, list[float]] = {}  # the same by level, see `monitor.levels`


class Manifest(_Struct, frozen=True, kw_only=True):
    """The whole manifest. `files` maps every other file's relative path to its sha256."""

    schema: Literal[1] = 1
    id: str
    product: str
    created: str  # ISO 8601, UTC
    edge_ad: str  # version that wrote it
    profile: Profile
    backbone: BackboneRef
    preprocess: Preprocess
    views: list[ViewRule]
    zones: list[ZoneRule] = []  # label images are files zones/CAMERA.png
    levels: list[Level]
    local: Local | None = None  # what the backbone gives per position; null for profile "paper"
    reduction: ReductionRef
    counts: dict[str, int]
    calibration_set: CalibrationSetRef
    engines: dict[str, Section]
    files: dict[str, str] = {}

    @property
    def tiles(self) -> list[Tile]:
        """The tiles of all views, in the order of an engine's rows."""
        return all_tiles(self.views)


class _Schema(msgspec.Struct):
    schema: int


def label_image_file(camera: str) -> str:
    """Of a camera's zones, in the bundle."""
    return f"{ZONES}/{camera}.png"


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Parse and check a manifest. Raises ArtifactError naming `where`, the key, and both schemas."""
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema
    except UNDECODABLE as error:
        raise ArtifactError(
            f"{where}: {MANIFEST} is not a bundle manifest ({error}); restore the bundle from a copy, "
            "or calibrate again"
        ) from error
    if schema != SCHEMA:
        raise ArtifactError(
            f"{where}: {MANIFEST} has schema {schema}, this edge_ad reads schema {SCHEMA}; "
            "calibrate again ('edge-ad calibrate --refit'), or use the edge_ad that wrote it"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except UNDECODABLE as error:
        raise ArtifactError(
            f"{where}: {MANIFEST}: {error}; it was not written by this edge_ad: calibrate again"
        ) from error
    _check(manifest, where)
    return manifest


def _check(manifest: Manifest, where: str) -> None:
    """What one key says of another."""

    def refuse(what: str) -> None:
        raise ArtifactError(f"{where}: {MANIFEST}: {what}; calibrate again")

    cameras = set(manifest.preprocess.cameras)
    if not manifest.views or not manifest.levels or not manifest.engines:
        refuse("views, levels and engines must not be empty")
    for name, rule in manifest.preprocess.cameras.items():
        if rule.frame_size == "fixed" and min(rule.width, rule.height) < 1:
            refuse(f"camera {name!r} has frames of {rule.width} x {rule.height} px")
        if rule.looks is not None:
            check_looks(rule.looks, rule.width, rule.height, name, refuse)
        if rule.locate is not None and rule.locate.reference not in manifest.files:
            refuse(f"camera {name!r} locates by {rule.locate.reference!r}, which is not in the bundle")
        if rule.locate is not None and rule.locate.shot:
            leader = manifest.preprocess.cameras.get(rule.locate.shot)
            if leader is None or leader.locate is None or leader.locate.shot:
                refuse(f"camera {name!r} follows {rule.locate.shot!r}, in which nothing is found")
            elif (rule.height, rule.width, rule.channels) != (
                leader.height, leader.width, leader.channels
            ):  # fmt: skip
                refuse(f"camera {name!r} follows {rule.locate.shot!r}, which has other frames")
        if rule.locate is not None and rule.frame_size != "fixed":
            refuse(f"camera {name!r} locates parts in frames of any size")
    for zone in manifest.zones:
        if label_image_file(zone.camera) not in manifest.files or zone.camera not in cameras:
            refuse(f"zone {zone.name!r} of camera {zone.camera!r} has no label image")
        if manifest.local is None or manifest.preprocess.cameras[zone.camera].frame_size != "fixed":
            refuse(f"zone {zone.name!r} in frames of any size, or without positions")
    for view in manifest.views:
        if view.camera not in cameras:
            refuse(f"view {view.name!r} names camera {view.camera!r}, it has {sorted(cameras)}")
    names, tiles = [level.name for level in manifest.levels], len(manifest.tiles)
    if (manifest.profile == PAPER) != (manifest.local is None):
        refuse(f"profile {manifest.profile!r} {'with' if manifest.local else 'without'} local features")
    for key, section in manifest.engines.items():
        if key != section.identity.key:
            refuse(f"section {key!r} belongs to engine {section.identity.key!r}")
        if section.identity.backbone_sha256 != manifest.backbone.sha256:
            refuse(
                f"section {key!r} is of backbone {section.identity.backbone_sha256[:12]}, "
                f"the bundle of {manifest.backbone.sha256[:12]}"
            )
        if len(section.scales) != tiles or len(section.levels) != tiles:
            refuse(f"section {key!r} has {len(section.scales)} scales for {tiles} tiles")
        if len(section.local) != (tiles if manifest.local else 0):
            refuse(
                f"section {key!r} has {len(section.local)} local fits for {tiles} tiles "
                f"of profile {manifest.profile!r}"
            )
        for fit in section.local:
            _check_combination(fit.combination, manifest.local, f"section {key!r}", refuse)
        _check_zones(manifest, section, f"section {key!r}", refuse)
        if any([fit.name for fit in fits] != names for fits in section.levels):
            refuse(f"section {key!r} does not have the levels {names} for every tile")
        numbers = [section.threshold, *section.scales]
        if not all(math.isfinite(value) and value > 0 for value in numbers):
            refuse(f"section {key!r} has a threshold or scale that is not a positive number: {numbers}")
        check_good(section.good_scores, f"section {key!r}: the good parts' scores", refuse)
        check_distances(section.good_distances, names, f"section {key!r}", refuse)
        unknown = sorted(set(section.reference_scores) - set(manifest.files))
        if unknown:
            refuse(f"section {key!r} scores a reference file that is not in the bundle: {unknown[0]}")


def _check_zones(
    manifest: Manifest, section: Section, whose: str, refuse: Callable[[str], None]
) -> None:
    own = sum(zone.share > 0.0 for zone in manifest.zones)
    if len(section.zones) != (own + 1 if own else 0):
        refuse(f"{whose} has {len(section.zones)} scales for {own} zones with a share, and the rest")
    for scale in section.zones:
        if not (math.isfinite(scale.median) and math.isfinite(scale.limit - scale.median)) or (
            scale.limit <= scale.median
        ):
            refuse(f"{whose} has a zone with the limit {scale.limit} and the median {scale.median}")
    for fit in section.local:
        for patch in fit.patches:
            sound = math.isfinite(patch.mean) and math.isfinite(patch.spread) and patch.spread > 0
            if not (sound and 1 <= patch.zone <= own and patch.top >= 1):
                refuse(f"{whose} has a patch that is not sound: {patch}")


def _check_combination(
    one: Combination, local: Local | None, whose: str, refuse: Callable[[str], None]
) -> None:
    """A spread below zero would turn what is far from good into what is near."""
    positions = local.positions if local is not None else 0
    if not 1 <= one.top <= positions:
        refuse(f"{whose} averages the largest {one.top} of {positions} positions")
    spreads = [one.global_spread, one.local_spread]
    if not all(math.isfinite(value) and value > 0 for value in spreads):
        refuse(f"{whose} has a spread that is not a positive number: {spreads}")
    if not all(map(math.isfinite, (one.global_mean, one.local_mean))):
        refuse(f"{whose} has a mean that is not finite")
