"""`edge-ad init`: a station file with every key, its default, unit and bound."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ad.cli.init_gate import GATE_TEMPLATE
from edge_ad.cli.init_plc import PLC_TEMPLATE
from edge_ad.cli.init_service import CONFIGURATION, make_directories, service_text
from edge_ad.errors import ConfigError, DeviceError

# Lines that begin with "#" and no space are keys at their defaults; a test reads them back.
TEMPLATE = """\
# A station of edge_ad: one daemon, one stream of parts, one gate.
# Keys that are commented out are at their defaults. Relative paths are relative to this file.
# 'edge-ad check -c FILE' says what would fail; 'edge-ad run -c FILE' inspects.

schema = 1
station = "line1"

# What is being made now; it names the bundle that parts are judged by.
#product = "default"
# All products that the line changes between, kept loaded ('edge-ad product NAME' changes over); empty:
# the one above alone.
#products = []
# Bundles, kept good parts and sockets live here.
#state_dir = "state"
# The group whose members may use the sockets in state_dir (mode 0770); empty: the process's own.
#group = ""
# From trigger to verdict, milliseconds; a later verdict is FAULT, never PASS.
#deadline_ms = 500.0
# How long a part waits for the frames of its other cameras and shots, milliseconds.
#join_ms = 200.0
# What tells which frames are one part's: the order and time of their "trigger", or the "key" that every
# source gives the part.
#join_by = "trigger"

# Where frames come from; one [[camera]] or more. 'edge-ad camera list' shows this machine's.
[[camera]]
name = "top"
# v4l2:///dev/video0?width=0&height=0&fps=0   a camera of this machine; 0 leaves the driver's setting
# rtsp://user:password@host/path              a network camera
# basler://SERIAL, genicam://ID               a Basler camera; another one of GigE Vision or USB3 Vision:
#                                             'edge-ad camera list' shows them
# gst://v4l2src device=/dev/video0 ! image/jpeg ! jpegdec   a GStreamer pipeline, without its sink; what
#                                             has double quotes in it goes between single ones
# file:///video.mp4?loop=0&fps=0              a video file
# folder:///directory?loop=0&fps=0            image files, sorted by path
# synthetic://?seed=1&defect_rate=0.05&fps=0  rendered parts
uri = "v4l2:///dev/video0"
# Names of the pictures that it takes of each part, one after another (lights, exposures), which views
# and zones name as "top.bright"; all are triggered within join_ms, and the next part's first one more
# than join_ms after the last. Empty: one picture.
#shots = []
# auto (8-bit grey or colour as delivered), mono8, mono10, mono12, mono16, bayerrg8, bayergr8, bayergb8,
# bayerbg8 (red at 0,0 is rg), rgb8, bgr8, yuv422_yuyv, yuv422_uyvy.
#pixel_format = "auto"
# Significant bits of mono10, mono12 and mono16 samples; 0: the format's own number.
#bit_depth = 0
# "fixed": a frame of another size than calibrated is FAULT. "any": squashed to the network's size.
# "auto": any for folders, fixed for everything else.
#frame_size = "auto"
# What a full queue does. "wait": the source waits. "skip": the oldest waiting frame goes, counted.
# "auto": skip for a free-running camera, wait for files and rendered parts.
#overflow = "auto"
# Frames that may wait for the inspection, 1 to 256.
#queue = 2
# A camera silent for this long is lost, and opened again with backoff, milliseconds; an industrial one
# that the line triggers only where it does not answer.
#stale_ms = 5000.0
# Larger frames and files are refused, megapixels.
#max_megapixels = 64.0
# From the trigger to the end of the exposure, and from there to the arrival, milliseconds: so much
# earlier than it came a picture was triggered, where the line does that.
#exposure_ms = 0.0
#transfer_ms = 0.0
# A frame of which 99 % lie below `dark` or above `bright`, of 255, is FAULT; 0 and 255: never.
#dark = 8
#bright = 248
# So many frames in a row that are bit for bit the one before are FAULT; 0: never. "auto": 1 for cameras
# but RTSP, 0 for files.
#frozen = "auto"
# x, y, width, height of what lies still in the frame and shows the light, a white patch say; without it
# the whole frame. [monitor] watches its grey value.
#patch = [8, 8, 64, 64]
# How many pixels of the frame a millimetre of the part is; 0: not known, areas are given in px^2.
#px_per_mm = 0.0

# Of a basler:// or genicam:// camera: what triggers it and how it is set. All of it is set at every open
# and read back; automatic functions (exposure, gain, white balance) are switched off.
#[camera.genicam]
# "": it runs free. "Line1": the input that the line's sensor is wired to, as the camera calls it.
# "Software": it takes a picture when the daemon asks, for trigger.kind "message" or "software".
#trigger = ""
# Of an input: RisingEdge, FallingEdge, AnyEdge, LevelHigh, LevelLow.
#activation = "RisingEdge"
# Frames that may wait between camera and daemon where every one counts, 1 to 256.
#buffers = 8
# The camera's own features and values, in this order; 'edge-ad camera tune --set NAME=VALUE' tries one:
# { ExposureTime = 5000.0, Gain = 0.0, "LineMode[LineSelector=Line2]" = "Output" }
#features = {}

# Where parts do not lie still: each is found in the frame and laid where the reference part lay, before
# views are cut from it. Without this table parts are taken to lie still.
#[camera.locate]
# How far off a part may lie: a share of the frame's width and height, and degrees.
#max_shift = 0.1
#max_angle = 15.0
# How much larger or smaller it may be, as a share; 0: its size is fixed.
#max_scale = 0.0
# Correlation with the reference part below which nothing was found.
#min_quality = 0.6
# Share of a view that may lie outside of the frame, where nothing of it is seen: a defect there passes.
#max_outside = 0.0
# x, y, width, height of what is looked for, in pixels of the reference part's frame; without it the
# frame less a margin of max_shift.
#box = [60, 40, 520, 400]
# Of a camera with shots the one that the part is found in; it lies in the others as in that one. Empty:
# it is found in each by itself.
#shot = ""
# A picture of the reference part, as 'edge-ad camera grab' writes it: regions and zones are drawn on it.
# Without it that of the bundle in use, at first the good part in the middle of all.
#reference = "reference.png"

# A region of a camera's frame, scored by Gaussians of its own. Without any [[view]] each camera is one.
#[[view]]
#name = "left"
#camera = "top"
# x, y, width, height in frame pixels; without it the whole frame, where the camera locates less a margin
# of max_shift, out of which parts that are turned take its corners.
#roi = [0, 0, 320, 480]
# Rows and columns of tiles, each an input of the network with Gaussians of its own, for defects that are
# small in the frame: 'edge-ad check' says how small. Time and memory grow with their number.
#tiles = [1, 1]
# Frame pixels that neighbouring tiles share, so that nothing lies at the edge of every tile.
#overlap = 0

# A part of a camera's frame that is inspected by rules of its own, or ignored; one [[zone]] or more.
# 'edge-ad camera grab -c FILE --overlay -o FILE.png' shows where views and zones lie.
#[[zone]]
#name = "logo"
#camera = "top"
# "inspect": by the rules below. "ignore": nothing that lies in it counts; it wins where zones overlap.
#kind = "inspect"
# The corners, [x, y] in frame pixels; where the camera locates, of the reference part's frame.
#polygon = [[200, 150], [330, 150], [330, 240], [200, 240]]
# The zone's own share of false_reject_rate; those of all zones add up to less than 1. 0: the zone
# belongs to the rest of the part.
#share = 0.0
# Smaller findings do not count; mm^2 where the camera has px_per_mm, else px^2.
#min_area = 0.0
# So many findings of at most allow_area (in the unit of min_area) are cosmetic.
#allow = 0
#allow_area = 0.0
# Instead of a polygon: a drawing of the frame's size. A label image (.png, grey of 8 or 16 bit), of
# which label is a grey value, or the JSON of LabelMe or COCO, of which it is a name, all shapes of it
# being one zone.
#[[zone]]
#name = "clamp"
#camera = "top"
#kind = "ignore"
#file = "zones.png"
#label = 3

[engine]
# "openvino" on a CPU. "tensorrt" on an NVIDIA GPU: 'edge-ad backbone build -c FILE' builds its engine
# first. "torch": the same network in PyTorch, on either.
#kind = "openvino"
# The directory that 'edge-ad backbone export' wrote; empty: the one that comes with the package.
#backbone = ""
# Worker threads; 0: one per physical core that the process may use.
#threads = 0
# What the engine computes in: f32, and with tensorrt f16 and int8.
#precision = "f32"
# Of kind "torch": cpu, or cuda; empty: cpu.
#device = ""
# Whether openvino, which is calibrated with the same parts, takes over where another engine fails for
# good. The state is DEGRADED then, and every verdict names the engine.
#fallback = true

[calibration]
# "default": the part as a whole and every position of it, with a map of what is unusual.
# "paper": the publication's sum over pooled levels, without a map.
#profile = "default"
# Names of the backbone's levels to use; empty: all.
#levels = []
# Keep the components that explain the last (npca) or first (pca) share of variance; 0: off.
#npca = 0.0
#pca = 0.0
# The share of good parts that may be rejected; 0.01 needs 99 parts, 299 for 95 % confidence.
#false_reject_rate = 0.01
# "conformal", or "chi2" as in the paper (one level only).
#threshold = "conformal"
# Repetitions of the whole fit with pca, npca and augment, 2 to 200.
#folds = 20
# Altered copies of every good part, fitted besides it (brightness, shift, focus, noise); 0 to 20.
#augment = 0
# Good parts that are separated from the rest: "report" lists them, "drop" also leaves them out.
#screen = "report"
# Fewer good parts than this are refused; with pca fewer than 100.
#min_parts = 20

# Pictures and verdicts of parts, kept in state_dir: 'edge-ad evidence list' shows them, 'edge-ad
# calibrate --from-evidence' learns from those that a person declares good.
[evidence]
# "rejects": REJECT and FAULT parts that were looked at, and the PASS parts that near and sample name.
# "none": no pictures are written.
#keep = "rejects"
# PASS parts whose score is within this share below the threshold are kept; 0: none.
#near = 0.02
# One in so many of the other PASS parts is kept; 0: none.
#sample = 0
# Beside each picture the same under the map of what is unusual, CAMERA.overlay.jpg, where the bundle
# makes one ("default" profile); false: only 'edge-ad evidence show --overlay' draws it.
#overlay = true
# What REJECT and FAULT parts, those near the threshold and those of the sample may take, megabytes; of
# each the oldest goes first.
#max_megabytes = 2000.0
#near_megabytes = 500.0
#sample_megabytes = 500.0
# Days of which every part's score is kept, a file each, the oldest going whole; 0: none is kept. What
# they may take, megabytes. 'edge-ad evidence find' searches them.
#scores_days = 90
#scores_megabytes = 2000.0
# Share of the disk that pictures leave free, whatever the quotas allow; scores leave half of it.
#min_free = 0.05
# Parts that may wait for being encoded and written, 1 to 256, and what memory their frames may take,
# megabytes, before further ones are dropped and counted.
#queue = 64
#queue_megabytes = 256.0

# What the daemon watches in its own inspection: it warns, counts and changes nothing.
[monitor]
# So many parts in a row that do not pass raise an alarm; 0: never.
#rejects_in_row = 5
# As does a larger share of the last so many; 0: never.
#reject_rate = 0.2
#reject_window = 100
# Drift of score, light, focus and place against the good parts of the calibration. In so many good parts
# one false alarm is raised at most, on average; 0: not watched.
#drift_parts = 1000000
# Light, focus and place are measured on one part in this time at most, milliseconds.
#sample_ms = 200.0

# Known parts that prove, now and then, that the line rejects what is bad: 'edge-ad challenge'.
[challenge]
# What a round's parts are, in the order in which they are put on the line.
#parts = ["PASS", "REJECT", "PASS"]
# A round is due so many hours after the last that passed, 0: never; and at every start of the daemon.
#every_hours = 0.0
#at_start = false
# While one is due parts are FAULT challenge; else it is an alarm.
#block = false

# What makes a part.
[trigger]
# "free": every frame is a part; verdicts are advisory. "line": the line triggers the cameras.
# "message": a request over endpoint announces each part by its key. "software": the daemon triggers.
#kind = "free"
# Of kind "message"; empty: a socket in state_dir.
#endpoint = ""
# Of kind "software": milliseconds between two parts; 0: when 'edge-ad trigger' asks.
#period_ms = 0.0
# Parts that may wait, 1 to 1024; the part that finds no room is FAULT overflow.
#queue = 16
# A frame must come within so many milliseconds after its trigger, or the part is FAULT no_frame. Where
# the line triggers the cameras, they may be early_ms earlier than the message; frame_ms + early_ms must
# be less than the time between two parts.
#frame_ms = 200.0
#early_ms = 20.0
# After so many FAULT in a row the line is asked to stop, until a part is judged; 0: never.
#line_stop_after = 10

# Where a free-running camera tells whether there is a part: the first frame in which the mean grey of a
# region is on this side is one, and verdicts are not advisory. Other frames are not inspected.
#[trigger.present]
#camera = "top"
# x, y, width, height in frame pixels.
#roi = [280, 200, 80, 80]
#side = "above"
#grey = 60.0
# How far back the grey must go before the next part may begin.
#hysteresis = 8.0
# Frames to wait until the part is where it is inspected.
#delay_frames = 0

# The acknowledged channel to the gate: durable, replayed, nothing is lost. Off without consumers.
[verdicts]
# Empty: a socket in state_dir.
#endpoint = ""
# Names of those who acknowledge every verdict.
#consumers = []
# How many hours of running verdicts are kept that every consumer has acknowledged.
#retention_hours = 24.0
# What they may take on disk, megabytes; the oldest goes first, counted.
#max_megabytes = 500.0
# Milliseconds between two signs of life, and without one until the other side counts as gone.
#heartbeat_ms = 500.0
#lost_ms = 1500.0

# The ZeroMQ PUB channel: every verdict, lossy by contract.
[scores]
#endpoint = "tcp://127.0.0.1:5570"
# Verdicts that may wait for the publisher before the oldest is dropped and counted.
#backlog = 10000
# ZeroMQ's own queue per subscriber, messages.
#high_water_mark = 10000

# Where 'edge-ad calibrate' and 'edge-ad bundle' reach the daemon; empty: a socket in state_dir.
[control]
#endpoint = ""

# Keys of the ZeroMQ sockets on TCP, which every address of the network needs; 'edge-ad keys new' makes
# them.
[curve]
# The station's own secret key, NAME.key_secret; empty: none.
#secret = ""
# The directory with the public keys, NAME.key, of the clients that are let in.
#clients = ""

# The Prometheus endpoint, http://HOST:PORT/metrics; port 0 takes a free one and logs it.
[metrics]
#host = "127.0.0.1"
#port = 9570
"""

# kind -> template, systemd's unit, what to do then
_KINDS = {
    "line": (TEMPLATE, "edge-ad", "set camera.uri, then 'edge-ad check -c {file}'"),
    "gate": (
        GATE_TEMPLATE, "edge-ad-station",
        "set source.endpoint and belt, then 'edge-ad station -c {file}'",
    ),
    "plc": (PLC_TEMPLATE, "edge-ad-plc", "set fieldbus.options, then 'edge-ad plc -c {file}'"),
}  # fmt: skip


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: line.toml")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--gate", is_flag=True, help="The file of 'edge-ad station' instead, gate.toml.")
@click.option("--plc", is_flag=True, help="The file of 'edge-ad plc' instead, plc.toml.")
@click.option(
    "--service",
    metavar="NAME",
    help="For systemd's edge-ad@NAME: with its directories and sockets, in /etc/edge-ad/NAME.",
)
def command(output: Path | None, force: bool, gate: bool, plc: bool, service: str | None) -> None:
    """Write a commented station file."""
    if gate and plc:
        raise ConfigError("--gate and --plc are two files; give one of them")
    kind = "gate" if gate else "plc" if plc else "line"
    template, unit, then = _KINDS[kind]
    name = f"{kind}.toml"
    if service is not None:
        template = service_text(template, name, service)
    try:
        if service is not None and output is None:
            make_directories(service)
            output = CONFIGURATION / service / name
        output = output or Path(name)
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(template)
        if service is not None:
            output.chmod(0o644)
    except FileExistsError as error:
        raise ConfigError(
            f"{output}: exists already; give another -o, or --force to overwrite"
        ) from error
    except OSError as error:
        remedy = "give another path" if service is None else "be root, or give another path with -o"
        where = output or error.filename
        raise DeviceError(f"{where}: cannot be written ({error.strerror}); {remedy}") from error
    click.echo(f"{output}: {then.format(file=output)}")
    if service is not None:
        click.echo(f"as a service: 'systemctl enable --now {unit}@{service}'")
