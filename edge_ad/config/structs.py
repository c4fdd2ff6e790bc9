"""The station's TOML file as frozen structs: every default, bound and unit is here.

Relative paths in the file are relative to the file. Errors name the file, the key, the value and the
bound. An unknown key is an error. Nothing else in the package invents a default.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_ad.config.challenge import Challenge
from edge_ad.config.delivery import Control, Curve, MetricsEndpoint, Name, Scores, Trigger, Verdicts
from edge_ad.config.genicam import SCHEMES, Genicam
from edge_ad.config.local import LocalFile
from edge_ad.config.monitor import Monitor
from edge_ad.errors import ConfigError

Rate = Annotated[float, Meta(gt=0.0, lt=0.5)]
Megabytes = Annotated[float, Meta(gt=0, le=100_000_000)]  # of 1,000,000 bytes
_Place = Annotated[int, Meta(ge=0)]
_Side = Annotated[int, Meta(ge=8)]
MOST_SIDE = 32  # rows or columns of tiles
_Tiles = Annotated[int, Meta(ge=1, le=MOST_SIDE)]
MOST_ZONES = 250  # each has a grey value of its own in an 8-bit image
MOST_CORNERS = 10_000  # of one polygon
LABEL_IMAGES = (".png", ".bmp", ".tif", ".tiff")  # without loss: grey values are labels
Roi = tuple[_Place, _Place, _Side, _Side]

EMBEDDED_BACKBONE = Path(__file__).parents[1] / "backbone" / "embedded"

MAX_MEGAPIXELS = 64.0  # of one frame or file, where nothing else is said

PAPER: Literal["paper"] = "paper"  # the publication: pooled levels alone, their plain sum
Profile = Literal["default", "paper"]
Screen = Literal["report", "drop"]
PixelFormat = Literal[
    "auto", "mono8", "mono10", "mono12", "mono16", "bayerrg8", "bayergr8", "bayergb8", "bayerbg8",
    "rgb8", "bgr8", "yuv422_yuyv", "yuv422_uyvy",
]  # fmt: skip


class Locate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[camera.locate]`: the part is found in the frame, and laid where the reference part lay, before
    views are cut from it."""

    # How far off a part may lie: a share of the frame's width and height, and degrees.
    max_shift: Annotated[float, Meta(ge=0, le=0.4)] = 0.1
    max_angle: Annotated[float, Meta(ge=0, le=90)] = 15.0
    # How much larger or smaller it may be, as a share; 0: its size is fixed.
    max_scale: Annotated[float, Meta(ge=0, le=0.2)] = 0.0
    # Correlation with the reference part below which nothing was found.
    min_quality: Annotated[float, Meta(gt=0, lt=1)] = 0.6
    # Share of a view that may lie outside of the frame, where nothing of it is seen: a defect there
    # passes.
    max_outside: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    # x, y, width, height of what is looked for, in pixels of the reference part's frame; absent: the
    # frame less a margin of max_shift.
    box: Roi | None = None
    # Of a camera with shots the one that the part is found in; it lies in the others as in that one.
    # Empty: it is found in each by itself.
    shot: str = ""
    # A picture of the part that others are laid like, 8-bit grey or BGR as `camera grab` writes it;
    # empty: the one that the bundle in use has, at first the good part in the middle of all.
    reference: str = ""


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[camera]]`: where frames come from.

    uri: `v4l2:///dev/video0`, `rtsp://...`, `gst://PIPELINE`, `basler://SERIAL`, `genicam://ID`,
    `file:///x.mp4`, `folder:///dir`, `synthetic://?seed=1`.
    """

    name: Name
    uri: str
    # Names of the pictures that it takes of each part, one after another (lights, exposures); empty: one
    # picture. Views and zones name one as CAMERA.SHOT.
    shots: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    pixel_format: PixelFormat = "auto"
    # Significant bits of mono10/12/16 samples; 0 takes the format's own number.
    bit_depth: Annotated[int, Meta(ge=0, le=16)] = 0
    # "auto": any size for folders, fixed for everything else.
    frame_size: Literal["auto", "fixed", "any"] = "auto"
    # What a full queue does. "wait": the source waits (files). "skip": the oldest waiting frame goes,
    # counted (free-running cameras). "auto": wait for folders, files and synthetic, skip for cameras.
    overflow: Literal["auto", "wait", "skip"] = "auto"
    queue: Annotated[int, Meta(ge=1, le=256)] = 2
    # A camera silent for this long is lost: reopened with backoff. Milliseconds.
    stale_ms: Annotated[float, Meta(ge=50, le=600_000)] = 5000.0
    # Frames with more pixels than this are refused. Megapixels.
    max_megapixels: Annotated[float, Meta(gt=0, le=400)] = MAX_MEGAPIXELS
    # How many pixels of the frame a millimetre of the part is; 0: not known, areas are given in px^2.
    px_per_mm: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    # From the trigger to the end of the exposure, and from there to the arrival: so much earlier than
    # it came a picture was triggered, where the line does that. Milliseconds.
    exposure_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    transfer_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    # A frame is FAULT where 99 % of it lie below `dark` or above `bright`, of 255. 0 and 255: never, as
    # for a shot whose light is off.
    dark: Annotated[int, Meta(ge=0, le=255)] = 8
    bright: Annotated[int, Meta(ge=0, le=255)] = 248
    # So many frames in a row that are bit for bit the one before them are FAULT; 0: never. "auto": 1 for
    # cameras but RTSP, whose encoder repeats a scene that stands still; 0 for files.
    frozen: Literal["auto"] | Annotated[int, Meta(ge=0, le=1000)] = "auto"
    # x, y, width, height of what lies still in the frame and shows the light, a white patch say, in
    # pixels; absent: the whole frame. For `monitor`.
    patch: Roi | None = None
    # Absent: parts lie still.
    locate: Locate | None = None
    # Of an industrial camera; absent: it runs free, with the features that it has.
    genicam: Genicam | None = None

    @property
    def pictures(self) -> tuple[Camera, ...]:
        """What it takes of each part, each as a camera of its own: itself, or CAMERA.SHOT for every
        shot. There `locate.shot` is the name of the picture that the part is found in."""
        if not self.shots:
            return (self,)
        return tuple(self._picture(shot) for shot in self.shots)

    @property
    def industrial(self) -> bool:
        """Whether `genicam` is for it."""
        return self.uri.partition(":")[0].lower() in SCHEMES

    def in_order(self, pictures: Iterable[str]) -> bool:
        """Whether its own among these names come in the order in which it takes them."""
        own = [picture.name for picture in self.pictures]
        return [name for name in pictures if name in own] == own

    def _picture(self, shot: str) -> Camera:
        locate = self.locate
        if locate is not None and locate.shot:
            other = "" if shot == locate.shot else f"{self.name}.{locate.shot}"
            locate = msgspec.structs.replace(locate, shot=other)
        return msgspec.structs.replace(self, name=f"{self.name}.{shot}", shots=(), locate=locate)

    @property
    def fixed_size(self) -> bool:
        """Whether its frames are all of one size."""
        if self.frame_size != "auto":
            return self.frame_size == "fixed"
        return self.locate is not None or not self.uri.lower().startswith("folder:")


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[view]]`: a region of one camera's frame, scored by Gaussians of its own. `camera` is
    CAMERA.SHOT where it takes several pictures of a part."""

    name: Name
    camera: Name
    # x, y, width, height in frame pixels, where the camera locates of the reference part's frame;
    # absent: the whole frame, where it locates less a margin of max_shift.
    roi: Roi | None = None
    # Rows and columns of tiles; each is an input of the network and has Gaussians of its own.
    tiles: tuple[_Tiles, _Tiles] = (1, 1)
    # Frame pixels that neighbouring tiles share at least.
    overlap: Annotated[int, Meta(ge=0, le=4096)] = 0


_Corners = Annotated[tuple[tuple[float, float], ...], Meta(min_length=3, max_length=MOST_CORNERS)]


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[zone]]`: a part of one camera's frame that is ignored, or inspected by rules of its own. Where
    the camera locates, coordinates are those of the reference part's frame."""

    name: Name
    camera: Name
    kind: Literal["ignore", "inspect"] = "inspect"
    # One of the two. The corners, [x, y] in frame pixels: 0, 0 is the upper left corner of the first
    # pixel, whose middle is at 0.5, 0.5.
    polygon: _Corners | None = None
    # Or a drawing of the frame's size: a label image (grey, 8 or 16 bit), or LabelMe's or COCO's JSON.
    file: str = ""
    # What of the file: a grey value of the image, a label or category name of the JSON.
    label: Annotated[int, Meta(ge=0, le=65_535)] | str | None = None
    # Of the false rejects that the station accepts; 0: none of its own, it belongs to the rest.
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    # Findings that are smaller do not count. mm^2 where the camera has px_per_mm, else px^2.
    min_area: Annotated[float, Meta(ge=0)] = 0.0
    # So many findings of at most allow_area (in the unit of min_area) are cosmetic.
    allow: Annotated[int, Meta(ge=0, le=1000)] = 0
    allow_area: Annotated[float, Meta(ge=0)] = 0.0


EngineKind = Literal["openvino", "tensorrt", "torch"]
Precision = Literal["f32", "f16", "int8"]


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[engine]`: what runs the backbone."""

    # "openvino" on a CPU; "tensorrt" on an NVIDIA GPU, after `edge-ad backbone build`; "torch", the same
    # network in PyTorch, on either.
    kind: EngineKind = "openvino"
    # A directory with backbone.onnx and backbone.json, as `edge-ad backbone export` writes it;
    # empty: the one that ships with the package.
    backbone: str = ""
    # Worker threads of the engine; 0: one per physical core that the process may use.
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    # What the engine computes in; all but f32 is for "tensorrt". On a CPU half precision is not offered:
    # the whitening amplifies its rounding until distances are off by half (66 instead of 44 with
    # MobileNetV2 in bf16).
    precision: Precision = "f32"
    # Of kind "torch": "cpu", which is also what empty means, or "cuda".
    device: Literal["", "cpu", "cuda"] = ""
    # Whether "openvino", which is calibrated with the same parts, takes the place of another engine that
    # fails: the state is DEGRADED then, and every verdict names the engine.
    fallback: bool = True


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[calibration]`: how the Gaussians are fitted and the threshold is set."""

    # "default": pooled levels and positions, which needs a backbone with local features. "paper": the
    # publication's sum over pooled levels, with no map.
    profile: Profile = "default"
    # Level names of the backbone to use; empty: all of them.
    levels: tuple[str, ...] = ()
    # Keep the principal components that explain this last share of variance (0.01: "NPCA 1 %"); 0: off.
    npca: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    # Keep the components that explain this first share of variance (0.99: "PCA 99 %"); 0: off.
    # Needs 100 good parts, whatever min_parts says.
    pca: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    false_reject_rate: Rate = 0.01
    # "conformal" (cross-fitted or leave-one-out), or "chi2" as in the paper (one level only).
    threshold: Literal["conformal", "chi2"] = "conformal"
    folds: Annotated[int, Meta(ge=2, le=200)] = 20
    # Altered copies of every good part that are fitted besides it (brightness, shift, focus, noise), for
    # a line that varies more than the collected parts do; 0: none. Fitting takes `folds` times as long.
    augment: Annotated[int, Meta(ge=0, le=20)] = 0
    # Parts that are separated from the rest are listed ("report") or left out as well ("drop").
    screen: Screen = "report"
    min_parts: Annotated[int, Meta(ge=2, le=100_000)] = 20


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[evidence]`: pictures and verdicts of parts, by kind, below state_dir."""

    # "rejects": REJECT and FAULT parts that were looked at, and the PASS parts that near and sample
    # name. "none": no pictures are written.
    keep: Literal["rejects", "none"] = "rejects"
    # PASS parts whose score is within this share below the threshold are kept; 0: none.
    near: Annotated[float, Meta(ge=0, lt=1)] = 0.02
    # One in so many of the other PASS parts is kept; 0: none.
    sample: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    # Beside the pictures the same under the map of what is unusual, where the bundle makes one.
    overlay: bool = True
    # What REJECT and FAULT parts may take; the oldest goes first. Megabytes of 1,000,000 bytes.
    max_megabytes: Megabytes = 2000.0
    # What those near the threshold, and those of the sample may take, each on its own.
    near_megabytes: Megabytes = 500.0
    sample_megabytes: Megabytes = 500.0
    # Days of which every part's score is kept, a file each, the oldest going whole; 0: none is kept.
    scores_days: Annotated[int, Meta(ge=0, le=36_600)] = 90
    # What the scores may take; so much holds 20 million parts.
    scores_megabytes: Megabytes = 2000.0
    # Share of the disk that pictures leave free, whatever the quotas allow; scores leave half of it.
    min_free: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    # Parts that may wait for being encoded and written, and what memory their frames may take, before
    # further ones are dropped.
    queue: Annotated[int, Meta(ge=1, le=256)] = 64
    queue_megabytes: Megabytes = 256.0


class Station(LocalFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole station file."""

    schema: Literal[1]
    station: Name
    product: Name = "default"
    # All products that the line changes between; their bundles are kept loaded. Empty: `product` alone.
    products: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()
    # Bundles, backbones, kept calibration sets and sockets live here.
    state_dir: str = "state"
    # The group whose members may use the ipc sockets (mode 0770). Empty: the group of the process.
    group: Annotated[str, Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_.-]{0,31})?$")] = ""
    # From trigger to verdict. A verdict that is later is FAULT. Milliseconds.
    deadline_ms: Annotated[float, Meta(gt=0, le=600_000)] = 500.0
    # How long a part waits for the frames of its other cameras. Milliseconds; less than the time
    # between two parts where cameras run free, or frames of different parts are joined; with shots less
    # than from the last of a part to the first of the next.
    join_ms: Annotated[float, Meta(gt=0, le=600_000)] = 200.0
    # What tells which frames of several cameras are one part's: the order and time of their triggers, or
    # the key that every source gives the part.
    join_by: Literal["trigger", "key"] = "trigger"
    camera: Annotated[tuple[Camera, ...], Meta(min_length=1, max_length=64)]
    view: Annotated[tuple[View, ...], Meta(max_length=256)] = ()
    zone: Annotated[tuple[Zone, ...], Meta(max_length=MOST_ZONES)] = ()
    engine: Engine = msgspec.field(default_factory=Engine)
    calibration: Calibration = msgspec.field(default_factory=Calibration)
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    monitor: Monitor = msgspec.field(default_factory=Monitor)
    challenge: Challenge = msgspec.field(default_factory=Challenge)
    trigger: Trigger = msgspec.field(default_factory=Trigger)
    verdicts: Verdicts = msgspec.field(default_factory=Verdicts)
    scores: Scores = msgspec.field(default_factory=Scores)
    control: Control = msgspec.field(default_factory=Control)
    curve: Curve = msgspec.field(default_factory=Curve)
    metrics: MetricsEndpoint = msgspec.field(default_factory=MetricsEndpoint)

    @property
    def known_products(self) -> tuple[str, ...]:
        """`product` first, then the others."""
        return tuple(dict.fromkeys((self.product, *self.products)))

    @property
    def pictures(self) -> tuple[Camera, ...]:
        """What the cameras take of each part; see `Camera.pictures`. All but capture goes by these."""
        return tuple(picture for camera in self.camera for picture in camera.pictures)

    @property
    def views(self) -> tuple[View, ...]:
        """The views, in the order of the engine's batch; without `[[view]]` each picture is one view."""
        return self.view or tuple(View(name=c.name, camera=c.name) for c in self.pictures)

    @property
    def control_endpoint(self) -> str:
        """The control socket's ZeroMQ endpoint."""
        return self.control.endpoint or f"ipc://{self.state_path / 'control.sock'}"

    @property
    def verdicts_endpoint(self) -> str:
        """The verdict channel's ZeroMQ endpoint."""
        return self.verdicts.endpoint or f"ipc://{self.state_path / 'verdicts.sock'}"

    @property
    def trigger_endpoint(self) -> str:
        """The ZeroMQ endpoint that parts are announced at."""
        return self.trigger.endpoint or f"ipc://{self.state_path / 'trigger.sock'}"

    @property
    def curve_secret(self) -> Path | None:
        """The file of the station's secret key, None without CURVE."""
        return self.resolve(self.curve.secret) if self.curve.secret else None

    @property
    def curve_clients(self) -> Path | None:
        """The directory of the clients' public keys, None where there are no clients."""
        return self.resolve(self.curve.clients) if self.curve.clients else None

    @property
    def backbone_path(self) -> Path:
        """The directory of the backbone named by the file, else of the one in the package."""
        if not self.engine.backbone:
            if (EMBEDDED_BACKBONE / "backbone.json").is_file():
                return EMBEDDED_BACKBONE
            raise ConfigError(
                f"{self.path or 'configuration'}: engine.backbone is not set; give the directory that "
                "'edge-ad backbone export' wrote"
            )
        return self.resolve(self.engine.backbone)
