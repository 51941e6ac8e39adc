"""The cells of a comparison: one method, backbone and seed each, trained in its own run folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdlora.config import BackboneConfig, RunConfig
from mdlora.data import Dataset
from mdlora.evaluation import gate_report
from mdlora.files import atomic_write_text
from mdlora.reports import run_facts
from mdlora.training import Progress, Run, RunFolder, resume, train_config

__all__ = ["Job", "cell_name", "read_cell", "run_job"]

# Not METHODS, the order in which tables show them: here a method comes after those it builds on.
# moe-mlora starts from mlora, and base-extra trains for as many epochs as these two took.
_ORDER = (
    "base",
    "mlora",
    "moe-mlora",
    "full-finetuned",
    "base-extra",
    "base-finetuned",
    "base-wide",
    "mlora-joint",
    "moe-mlora-joint",
    "separate",
)

_IN_PHASES = ("mlora", "moe-mlora", "full-finetuned")


@dataclass(frozen=True, kw_only=True)
class Job:
    """All methods of one backbone and seed; they share their first phases bit for bit."""

    config: RunConfig
    backbone: str
    seed: int
    methods: tuple[str, ...]
    out: Path

    @property
    def name(self) -> str:
        """What progress bars call it."""
        return f"{self.backbone}, seed {self.seed}"

    def todo(self) -> tuple[str, ...]:
        """Methods that remain, in the order in which one can build on another."""
        return tuple(m for m in _ORDER if m in self.methods and not self.is_done(m))

    def is_done(self, method: str) -> bool:
        """Whether a method's cell is finished, and still fits the other methods."""
        cell = read_cell(self.out, self.backbone, method, self.seed)
        if cell is None:
            return False
        adapters = set(_IN_PHASES) & set(self.methods)
        if method != "base-extra" or not adapters:
            return True
        # An adapter method that came later may have taken other epochs than the control did.
        if not all(_finished(self, adapter) for adapter in adapters):
            return False
        return bool(cell["epochs"]["extra"] == _extra_epochs(self))


def cell_name(backbone: str, method: str, seed: int) -> str:
    """The name of a cell's files."""
    return f"{backbone}-{method}-seed{seed}"


def read_cell(out: Path, backbone: str, method: str, seed: int) -> dict[str, Any] | None:
    """A finished cell, or None."""
    path = out / "cells" / f"{cell_name(backbone, method, seed)}.json"
    if not path.exists():
        return None
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plain


def run_job(job: Job, data: Dataset, progress: Progress) -> Iterator[dict[str, Any]]:
    """Train and evaluate what is missing of a job; yields each cell once it is on disk."""
    for method in _ORDER:
        if method not in job.methods or job.is_done(method):
            continue
        _forget(job, method)
        progress.note(f"{job.name}: {method}")
        run = _train(job, method, data, progress)
        cell = _describe(run, data)
        path = job.out / "cells" / f"{cell_name(job.backbone, method, job.seed)}.json"
        atomic_write_text(path, json.dumps(cell) + "\n")
        yield cell


def _forget(job: Job, method: str) -> None:
    """Remove a cell that no longer fits, and its run."""
    path = job.out / "cells" / f"{cell_name(job.backbone, method, job.seed)}.json"
    if path.exists():
        path.unlink()
        shutil.rmtree(_folder(job, method))


def _train(job: Job, method: str, data: Dataset, progress: Progress) -> Run:
    folder = _folder(job, method)
    if RunFolder(folder).state_path.exists():
        return resume(folder, progress=progress)
    if folder.exists():  # stopped before its first checkpoint
        shutil.rmtree(folder)
    config = dataclasses.replace(
        job.config,
        method=method,
        seed=job.seed,
        backbone=_renamed(job.config.backbone, job.backbone),
    )
    if method == "base-extra":
        epochs = _extra_epochs(job) or config.plan.extra_epochs
        plan = dataclasses.replace(config.plan, extra_epochs=epochs)
        config = dataclasses.replace(config, plan=plan)
    return train_config(config, data, folder, progress=progress, start_from=_start(job, method))


def _renamed(backbone: BackboneConfig, name: str) -> BackboneConfig:
    return dataclasses.replace(backbone, name=name)


def _folder(job: Job, method: str) -> Path:
    return job.out / "runs" / cell_name(job.backbone, method, job.seed)


def _finished(job: Job, method: str) -> bool:
    return read_cell(job.out, job.backbone, method, job.seed) is not None


def _start(job: Job, method: str) -> Path | None:
    """The run whose phases are the first ones of this method's, if it is there."""
    if job.config.plan.phases is not None or method in ("base", "base-wide", "separate"):
        return None
    if method.endswith("-joint") and job.config.plan.joint_start == "scratch":
        return None
    one_expert = job.config.adapter.experts_per_domain == 1
    if method == "moe-mlora" and one_expert and _finished(job, "mlora"):
        return _folder(job, "mlora")
    return _folder(job, "base") if _finished(job, "base") else None


def _extra_epochs(job: Job) -> int:
    """The most epochs that an adapter method of this job took after its first phase."""
    most = 0
    for method in _IN_PHASES:
        cell = read_cell(job.out, job.backbone, method, job.seed)
        if cell is not None:
            most = max(most, sum(list(cell["epochs"].values())[1:]))
    return most


def _describe(run: Run, data: Dataset) -> dict[str, Any]:
    result = run.evaluate("test", data)
    lines = run.metrics()
    ends = [line for line in lines if line.get("end")]
    facts = run_facts(run, result)
    shown = ("phase", "epoch", "wauc", "train_loss")
    validation = data.split("validation")
    return {
        **{key: facts.pop(key) for key in ("method", "backbone", "seed")},
        "wauc": result.wauc,
        "auc": {domain.name: domain.auc for domain in result.domains},
        "log_loss": result.log_loss,
        "seconds": round(sum(end["seconds"] for end in ends), 2),
        "cpu_seconds": round(sum(end["cpu_seconds"] for end in ends), 2),
        "parameters": run.model.num_parameters(),
        "mean_auc": result.mean_auc,
        "overall_auc": result.overall_auc,
        "calibration": result.calibration,
        "validation_wauc": ends[-1]["wauc"],
        "epochs": {end["phase"]: end["epochs"] for end in ends},
        **facts,
        "oracle": result.oracle_wauc,
        "curve": [{k: line[k] for k in shown} for line in lines if not line.get("end")],
        "gates": gate_report(run.model, validation),
    }
