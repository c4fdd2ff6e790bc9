"""The demo, step by step: start, listen, collect, calibrate, inspect, reject, qualify, compare."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

from edge_ad.backbone.spec import load_backbone
from edge_ad.bundle.describe import detected_text
from edge_ad.bundle.qualification import Detected
from edge_ad.calibration_set import encode_frame
from edge_ad.capture.defects import DEFECTS
from edge_ad.capture.parts import part_key, part_number, plate
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.delivery.scores import ScoreSubscriber
from edge_ad.demo.line import Line
from edge_ad.demo.plc import run_plc
from edge_ad.demo.progress import DEADLINE_MS, HEIGHT, RATE, WIDTH, Options, Progress
from edge_ad.demo.tally import (
    PlcResult,
    Record,
    Result,
    Tally,
    agree,
    judged_by,
    promised_interval,
    wrong_engine,
)
from edge_ad.errors import CheckFailed, ConfigError, DeviceError
from edge_ad.gaussian.threshold import Promise, percent

Show = Callable[[Progress], None]

KNOWN_BAD = 25  # rendered parts of each kind of defect for the qualification
FAR = 10_000_000  # their numbers begin where the line's never come


def run_demo(
    options: Options, show: Show, clock: Callable[[], float] = time.monotonic
) -> tuple[Result, Progress]:
    """Run the whole story. `show` is called at every change and must return quickly.

    Raises ArtifactError for the backbone, CheckFailed or DeviceError when a step fails; a story that
    ends badly is a `Result` with `problems`.
    """
    if options.plc and find_spec("pymodbus") is None:
        raise ConfigError("--plc: needs pymodbus; pip install 'edge_ad[modbus]'")
    backbone = load_backbone(options.backbone or EMBEDDED_BACKBONE)
    with ExitStack() as stack:
        if options.keep is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-ad-")))
        else:
            directory = options.keep.absolute()
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise ConfigError(f"--keep {directory}: is not empty; give a new directory")
        line = stack.enter_context(
            Line(directory, options.uri, backbone.directory, RATE, DEADLINE_MS, options.engine)
        )
        progress = Progress(options, Tally(options.truth), backbone.name, clock())
        return _Story(line, progress, show, clock).tell(), progress


def write_defects(directory: Path, seed: int) -> None:
    """Render KNOWN_BAD parts of each kind of defect into a folder each."""
    line = plate(seed, WIDTH, HEIGHT)
    for place, defect in enumerate(DEFECTS):
        (directory / defect).mkdir(parents=True)
        for number in range(FAR + place * KNOWN_BAD, FAR + (place + 1) * KNOWN_BAD):
            data = encode_frame(line.render(number, defect))
            (directory / defect / f"{part_key(number)}.png").write_bytes(data)


class _Story:
    """One run; each step is a method."""

    def __init__(self, line: Line, progress: Progress, show: Show, clock: Callable[[], float]) -> None:
        self._line = line
        self._progress = progress
        self._options = progress.options
        self._tally = progress.tally
        self._show = show
        self._clock = clock
        self._inspected = 0  # parts judged where defects may come
        self._detection: Detected | None = None
        self._plc: PlcResult | None = None
        self._plc_problems: list[str] = []

    def tell(self) -> Result:
        started = self._clock()
        if self._options.engine == "tensorrt":
            self._build()
        self._progress.begin("start", "edge-ad run: the daemon, in a process of its own")
        self._show(self._progress)
        status = self._line.start()
        self._progress.finish(f"pid {status['pid']}, scores at {status['scores']}, state LEARNING")
        with ScoreSubscriber(status["scores"]) as consumer:
            self._progress.begin("listen", "a ZeroMQ consumer, readiness handshake")
            consumer.sync(self._line.control, timeout_s=20.0)
            synced_at = int(self._line.status()["parts"])
            self._progress.finish(
                f"one consumer; every verdict from part {synced_at + 1} on must arrive"
            )
            self._calibrate(consumer)
            self._inspect(consumer)
            self._qualify(consumer)
            url, counted = self._scrape()
            self._drain(consumer)
        if self._options.plc:
            self._plc, self._plc_problems = run_plc(self._line, self._progress, self._show, self._clock)
        return self._result(synced_at, url, counted, self._clock() - started)

    def _build(self) -> None:
        self._progress.begin("build", "TensorRT's engine for this card; minutes on a Jetson")
        self._line.build()
        while not self._line.finished():
            self._show(self._progress)
            time.sleep(0.1)
        self._progress.finish("TensorRT's engine for this card, its features compared with OpenVINO's")

    def _listen(self, consumer: ScoreSubscriber, timeout_s: float = 0.1) -> bool:
        """Take one verdict, if there is one."""
        message = consumer.receive(timeout_s)
        if message is None:
            return False
        _, header, body = message
        if self._tally.add(header, body):
            self._inspected += part_number(header.part) >= self._options.good_first
            self._progress.recent.append((header, body))
            if body.verdict == "REJECT":
                self._progress.rejected = (header, body)
                self._keep_example((header, body))
        self._show(self._progress)
        return True

    def _keep_example(self, record: Record) -> None:
        examples, kind = self._progress.examples, self._tally.truth(record[0].part)
        if kind not in examples or (record[1].score or 0) > (examples[kind][1].score or 0):
            examples[kind] = record

    def _calibrate(self, consumer: ScoreSubscriber) -> None:
        wanted = self._options.good_parts
        self._progress.begin("collect", f"{wanted} good parts for the calibration")
        self._line.calibrate(wanted)
        asked_at, collected = 0.0, False
        while not self._line.finished():
            self._listen(consumer)
            self._line.check()
            if not collected and self._clock() - asked_at > 0.25:
                asked_at = self._clock()
                state = self._line.status().get("collect") or {"collected": 0, "done": False}
                self._progress.share = state["collected"] / wanted
                if collected := bool(state["done"]):
                    self._progress.finish(f"{state['collected']} good parts, lossless")
                    self._progress.begin("calibrate", "Gaussians, leave-one-out scores, threshold")
            self._show(self._progress)
        if self._tally.bad_collected:
            raise CheckFailed(
                f"{self._tally.bad_collected} defective parts were collected as good, as this machine "
                "was too slow to begin; try again with a lower --fps"
            )
        section = self._line.section()
        self._progress.begin("calibrate", "")
        self._progress.finish(
            f"threshold {section.threshold:.1f}; {percent(section.promise.expected)} false rejects "
            f"expected, at most {percent(section.promise.confident)} with 95 % confidence"
        )

    def _inspect(self, consumer: ScoreSubscriber) -> None:
        wanted = self._options.parts
        self._progress.begin(
            "inspect", f"{wanted} parts, {percent(self._options.defect_rate)} defective"
        )
        silent_since = self._clock()
        while self._inspected < wanted:
            if self._listen(consumer):
                silent_since = self._clock()
            self._line.check()
            if self._clock() - silent_since > 20:
                raise DeviceError(
                    "no verdict for 20 s; try again with --keep DIR and see its daemon.log"
                )
            self._progress.share = self._inspected / wanted
        self._progress.finish(f"{self._tally.judged} parts, {self._tally.verdicts()['REJECT']} rejected")

    def _qualify(self, consumer: ScoreSubscriber) -> None:
        """Defects that the line has not made, through the same bundle; meanwhile the line goes on."""
        number = KNOWN_BAD * len(DEFECTS)
        self._progress.begin("qualify", f"{number} known-bad parts: what would escape")
        bad = self._line.directory / "bad"
        write_defects(bad, self._options.seed)
        self._line.qualify(bad)
        while not self._line.finished():
            self._listen(consumer)
            self._line.check()
            self._show(self._progress)
        self._detection = self._line.detection()
        self._progress.finish(f"{number} known-bad parts: {detected_text(self._detection)}")

    def _scrape(self) -> tuple[str, int]:
        """Read the metrics once, as Prometheus would: their URL, and the parts that they count."""
        url = str(self._line.status()["metrics"])
        with urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        counted = sum(
            int(float(n)) for n in re.findall(r"^edge_ad_parts_total\{.*\} (\S+)$", text, re.M)
        )
        if counted < len(self._tally.records):
            raise CheckFailed(
                f"{url}: counts {counted} parts, the consumer received {len(self._tally.records)}"
            )
        return url, counted

    def _drain(self, consumer: ScoreSubscriber) -> None:
        """Stop the daemon; what it still had to say must arrive too."""
        self._progress.begin("stop", "SIGTERM: what is queued is inspected first")
        self._line.stop()
        end = self._clock() + 30
        while not self._line.stopped():
            self._listen(consumer)
            if self._clock() > end:
                raise DeviceError("the daemon did not stop within 30 s of SIGTERM")
        while self._listen(consumer, 0.5):
            pass
        self._progress.finish(f"{self._tally.judged} parts inspected; daemon drained and stopped")

    def _result(self, synced_at: int, url: str, counted: int, seconds: float) -> Result:
        tally, section, journal = self._tally, self._line.section(), self._line.read_journal()
        agreement, key = agree(tally.records, journal, synced_at), section.identity.key
        promise: Promise = section.promise
        good = tally.total("good")
        false_rejects = tally.of("good", "REJECT")
        low, high = promised_interval(promise, good)
        problems = []
        if agreement.difference:
            problems.append(f"daemon and consumer differ: {agreement.difference}")
        if wrong := wrong_engine(journal, key):
            problems.append(f"{wrong}; try again with --keep DIR and see why in its daemon.log")
        if false_rejects > high:  # fewer break no promise
            problems.append(f"{false_rejects} of {good} good parts rejected, promised at most {high}")
        problems += self._plc_problems
        assert self._detection is not None
        missed = sum(row["PASS"] for kind, row in tally.confusion.items() if kind != "good")
        return Result(
            ok=not problems,
            problems=tuple(problems),
            parts=tally.judged,
            verdicts=tally.verdicts(),
            missed_defects=missed,
            detection=self._detection,
            false_rejects=false_rejects,
            late=tally.late,
            good_parts=good,
            defective_parts=tally.judged - good,
            confusion={kind: dict(row) for kind, row in tally.confusion.items()},
            promised_false_rejects=(low, high),
            promise=promise,
            threshold=section.threshold,
            agreement=agreement,
            latency_ms=tally.latency(),
            metrics_url=url,
            metrics_parts=counted,
            backbone=self._progress.backbone,
            engine=key,
            judged_by=judged_by(journal),
            calibration_parts=promise.parts,
            seconds=seconds,
            plc=self._plc,
        )
