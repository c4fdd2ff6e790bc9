"""Train the embedded backbone: regress the teacher's stages on photographs and rendered surfaces.

    python calibration/embedded/train.py --out runs/embedded --target pooled --compile
    python calibration/embedded/train.py --out runs/longer --target pooled --lr 2e-3 --warmup 200 \
        --resume runs/embedded/pooled.safetensors --seconds 460 --compile inputs

Several --target may be given: the students see the same crops and share the teacher's pass, which
makes a fair comparison. Every crop is new, so the training loss is also the held-out loss.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from crops import CropStore
from distil import Distiller, Targets, load_teacher, teacher_stages
from safetensors.torch import load_file, save_file
from textures import Draw
from torch import Tensor, nn


@dataclass(frozen=True)
class Phase:
    """Crops of `size` pixels in batches of `batch`, until this share of the run."""

    size: int
    batch: int
    until: float


def parse_phases(text: str) -> list[Phase]:
    parts = (part.split(":") for part in text.split(","))
    return [Phase(int(size), int(batch), float(until)) for size, batch, until in parts]


class Learner:
    """One student with its optimiser."""

    def __init__(self, kind: str, targets: Targets, args: argparse.Namespace) -> None:
        self.kind = kind
        distiller = Distiller(kind, targets)
        if args.resume:
            distiller.student.load_state_dict(load_file(str(args.resume)))
        distiller = distiller.to(args.device, memory_format=torch.channels_last)
        self.distiller = distiller
        self.compiled: Callable[..., tuple[Tensor, Tensor]] = (
            torch.compile(distiller) if args.compile == "all" else distiller
        )
        kernels = [p for p in distiller.parameters() if p.ndim > 1]
        others = [p for p in distiller.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": args.decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=args.lr, fused=True)

    def step(self, x: Tensor, stages: list[Tensor], lr: float, fast: bool) -> Tensor:
        """One step; returns the loss's parts."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        with torch.autocast(x.device.type, torch.bfloat16):
            loss, parts = (self.compiled if fast else self.distiller)(x, stages)
        loss.backward()
        nn.utils.clip_grad_norm_(self.distiller.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return parts

    def save(self, out: Path, settings: dict[str, object]) -> Path:
        path = out / f"{self.kind}.safetensors"
        state = {k: v.contiguous() for k, v in self.distiller.student.state_dict().items()}
        save_file(state, str(path), metadata={"settings": json.dumps(settings, sort_keys=True)})
        return path


class Log:
    """Losses averaged between two lines of log.csv."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file)
        columns = ["target", "step", "crops", "seconds", "lr", "size", "local", "pooled"]
        self.writer.writerow([*columns, "local_per_stage", "pooled_per_stage"])
        self.sums: dict[str, Tensor | float] = dict.fromkeys(names, 0.0)
        self.count = 0

    def write(self, *state: object) -> None:
        for name, total in self.sums.items():
            local, pooled = (torch.as_tensor(total) / self.count).tolist()
            row = [name, *state]
            row += [f"{sum(part) / len(part):.4f}" for part in (local, pooled)]
            row += [" ".join(f"{v:.3f}" for v in part) for part in (local, pooled)]
            self.writer.writerow(row)
            print(*row, flush=True)
        self.file.flush()
        self.sums = dict.fromkeys(self.sums, 0.0)
        self.count = 0


class Schedule:
    """Progress from 0 to 1: in steps, or by the clock where seconds are given."""

    def __init__(self, args: argparse.Namespace, began: float) -> None:
        self.steps: int = args.steps
        self.stop: int = args.stop
        self.started = time.monotonic()
        self.seconds = max(began + args.seconds - self.started, 1.0) if args.seconds else 0.0

    def progress(self, step: int) -> float:
        if self.stop and step >= self.stop:
            return 1.0
        if self.seconds:
            return (time.monotonic() - self.started) / self.seconds
        return step / self.steps


def set_up(args: argparse.Namespace) -> tuple[CropStore, nn.Module]:
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    draw = Draw(torch.Generator(device=device).manual_seed(args.seed))
    store = CropStore(args.photos, args.surfaces, draw)
    for _ in range(0, args.surfaces, 128):
        store.render(128)
    return store, load_teacher(args.teacher, device)


def learning_rate(peak: float, step: int, warmup: int, progress: float) -> float:
    return peak * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * progress))


def describe(args: argparse.Namespace) -> dict[str, object]:
    resumed = (
        {"resume_sha256": hashlib.sha256(args.resume.read_bytes()).hexdigest()} if args.resume else {}
    )
    return {
        **resumed,
        **{k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "teacher_sha256": hashlib.sha256(args.teacher.read_bytes()).hexdigest(),
        "torch": torch.__version__,
        "device_name": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
    }


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    store, teacher = set_up(args)
    phases = parse_phases(args.phases)
    first = phases[0]

    @torch.no_grad()
    def stages(x: Tensor) -> list[Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16):
            return teacher_stages(teacher, x)

    probe = (store.batch(first.batch, first.size, args.share) for _ in range(args.probe))
    targets = Targets(stages, probe)
    learners = [Learner(kind, targets, args) for kind in args.target]
    compiled_stages = torch.compile(stages, dynamic=False) if args.compile else stages
    settings = describe(args)
    log = Log(args.out / "log.csv", args.target)
    schedule = Schedule(args, began)
    crops, step, saved = 0, 0, began
    current: Phase | None = None
    fused = False
    while (progress := schedule.progress(step)) < 1:
        phase = next((p for p in phases if progress < p.until), phases[-1])
        if phase is not current:
            current = phase
            # Compiling the student again for another size would take longer than it saves.
            fused = args.compile == "inputs" or (args.compile == "all" and phase is first)
            store.compile(fused)
        if step % args.refresh == 0:
            store.render(128)
        x = store.batch(phase.batch, phase.size, args.share)
        maps = (compiled_stages if fused else stages)(x)
        lr = learning_rate(args.lr, step, args.warmup, progress)
        for learner in learners:
            log.sums[learner.kind] = log.sums[learner.kind] + learner.step(x, maps, lr, fused)
        log.count, crops, step = log.count + 1, crops + phase.batch, step + 1
        now = time.monotonic()
        if step % args.every == 0:
            log.write(step, crops, round(now - began, 1), f"{lr:.2e}", phase.size)
        if now - saved > args.checkpoint_s:
            saved = now
            for learner in learners:
                learner.save(args.out, settings)
    if log.count and current:
        log.write(step, crops, round(time.monotonic() - began, 1), f"{lr:.2e}", current.size)
    settings |= {"crops": crops, "steps": step, "took_s": round(time.monotonic() - began)}
    for learner in learners:
        path = learner.save(args.out, settings)
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def main() -> None:
    shared = Path("../shared")
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--photos", type=Path, default=shared / "data/natural")
    add("--teacher", type=Path, default=shared / "weights/mobilenetv2_100.safetensors")
    add("--out", type=Path, required=True, help="checkpoints and log.csv go here")
    add("--target", action="append", required=True, choices=["plain", "white", "pooled"])
    add("--device", default="cuda")
    add("--seed", type=int, default=0)
    add("--steps", type=int, default=7000)
    add("--stop", type=int, default=0, help="end at this step of the schedule; 0: at its end")
    add("--seconds", type=float, default=0.0, help="schedule by the clock, not by --steps")
    add("--phases", default="128:1024:0.85,224:320:1.0", help="SIZE:BATCH:UNTIL,...")
    add("--share", type=float, default=0.4, help="share of rendered surfaces")
    add("--surfaces", type=int, default=6144, help="rendered surfaces held at once")
    add("--refresh", type=int, default=8, help="steps between 128 new surfaces")
    add("--probe", type=int, default=24, help="batches for the targets' moments")
    add("--lr", type=float, default=4e-3)
    add("--decay", type=float, default=0.02)
    add("--warmup", type=int, default=400)
    add("--every", type=int, default=100, help="steps per line of the log")
    add("--checkpoint-s", type=float, default=15.0)
    add("--resume", type=Path, help="weights to start from, a checkpoint of an earlier run")
    add(
        "--compile",
        nargs="?",
        const="all",
        choices=["all", "inputs"],
        help="all: crops, teacher and student, in the first phase; inputs: crops and teacher, always",
    )
    train(parser.parse_args())


if __name__ == "__main__":
    main()
