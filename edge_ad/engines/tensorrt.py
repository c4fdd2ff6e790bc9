"""A TensorRT engine out of the cache, its numbers checked under this driver."""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from edge_ad.backbone import openvino
from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.cache import Entry, NumericCheck, read_plan, write_check
from edge_ad.backbone.tensorrt.engine import TensorRtBackbone, engine_tensors
from edge_ad.backbone.tensorrt.key import Wanted, identity
from edge_ad.backbone.tensorrt.library import Library, open_library
from edge_ad.backbone.tensorrt.log import make_log
from edge_ad.backbone.tensorrt.lookup import find_engine
from edge_ad.cuda.device import Device
from edge_ad.cuda.primary import SETUP
from edge_ad.engines.alike import check_features, feature_errors, largest_error, reference_pictures
from edge_ad.engines.choice import EngineChoice
from edge_ad.engines.gpu_engine import GpuFeatures
from edge_ad.errors import ArtifactError, DeviceError

log = logging.getLogger("edge_ad")


def open_tensorrt(
    choice: EngineChoice, device: Device, backbone: Backbone, batch: int, local: bool, dim: int
) -> TensorRtBackbone:
    """The engine that was built for exactly this: nothing is built here.

    Its features are compared with OpenVINO's first, once per engine and driver. Raises DeviceError where
    TensorRT is missing or of another version, or the engine of another card; ArtifactError where there
    is no engine, it is damaged, or its features are off. Each names the command to give.
    """
    library = open_library("tensorrt")
    all_of_it = backbone.local.dim if local and backbone.local is not None else 0
    wanted = Wanted(
        library=library.name,
        library_version=library.version,
        backbone_sha256=backbone.sha256,
        precision=choice.precision,
        batch=batch,
        local_dim=min(dim or all_of_it, all_of_it),
        device=device.facts,
    )
    entry = find_engine(Path(choice.cache), wanted, choice.build, choice.plan)
    plan = read_plan(entry)
    if entry.needs_check(device.driver.text):
        check_entry(entry, library, plan, backbone, device)
    return _load(entry, library, plan, backbone, device)


def check_entry(
    entry: Entry, library: Library, plan: bytes, backbone: Backbone, device: Device
) -> float:
    """Compare an engine's features with those of OpenVINO in float32, and note it beside the engine.

    Returns the largest error, in standard deviations of a feature. Raises ArtifactError when it is above
    the bound of the precision.
    """
    key, driver = entry.record.key, device.driver.text
    with ExitStack() as made:
        engine = GpuFeatures(device, _load(entry, library, plan, backbone, device))
        made.callback(engine.close)
        reference = openvino.open_features(backbone, 1, local=bool(key.local_dim), dim=key.local_dim)
        made.callback(reference.close)
        pictures = reference_pictures(backbone.height, backbone.width)
        errors = feature_errors(engine, reference, backbone, pictures)
    worst = largest_error(errors)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        check_features(errors, key.precision, str(entry.plan_path))
    except ArtifactError:
        # JSON has no NaN.
        _note(entry, NumericCheck(driver, False, worst if math.isfinite(worst) else None, now))
        raise
    _note(entry, NumericCheck(driver, True, worst, now))
    return worst


def _note(entry: Entry, check: NumericCheck) -> None:
    try:
        write_check(entry, check)
    except DeviceError as error:  # only saves time at the next start
        log.warning("%s; the engine's numbers are compared again at every start", error)


def _load(
    entry: Entry, library: Library, plan: bytes, backbone: Backbone, device: Device
) -> TensorRtBackbone:
    key = entry.record.key
    trt_log, messages = make_log(library.module)
    tensors = engine_tensors(backbone, key.batch, key.local_dim)
    where = str(entry.plan_path)
    told = identity(key, entry.record.plan_sha256, device.driver.text)
    with SETUP:  # loading waits for the GPU
        return TensorRtBackbone(library.module, trt_log, messages, plan, tensors, where, told)
