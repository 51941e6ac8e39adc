"""The ways in: train a model, train what a configuration says, go on with a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from mdlora.config import (
    SEPARATE,
    DataConfig,
    DomainAdapters,
    FullFinetuning,
    MLoRA,
    MoEMLoRA,
    PlanConfig,
    RunConfig,
    TrainingConfig,
)
from mdlora.data import Dataset
from mdlora.errors import ConfigError
from mdlora.model import CTRModel
from mdlora.training.build import build_model
from mdlora.training.progress import Progress
from mdlora.training.run import Run, load_run_data
from mdlora.training.run_folder import RunFolder
from mdlora.training.separate import resume_separate, train_separate
from mdlora.training.trainer import Trainer

__all__ = ["resume", "train", "train_config"]


def _method_of(adapter: DomainAdapters | None) -> str:
    """The method, in phases, that adapters stand for."""
    kinds = {MoEMLoRA: "moe-mlora", MLoRA: "mlora", FullFinetuning: "full-finetuned"}
    return "base" if adapter is None else kinds[type(adapter)]


def train(
    model: CTRModel,
    data: Dataset,
    *,
    out: str | Path,
    method: str | None = None,
    plan: PlanConfig | None = None,
    training: TrainingConfig | None = None,
    reading: DataConfig | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a model by the method that its adapters stand for, and keep everything in `out`.

    Args:
        model: as built; it ends with the best weights.
        data: with splits train and validation.
        out: the run folder, new or empty.
        method: default: base without adapters, mlora with MLoRA, moe-mlora with MoEMLoRA,
            full-finetuned with FullFinetuning.
        plan: phases and stopping; default: the protocol `paper`.
        training: optimizer, batches, device.
        reading: how training rows are taken: streamed from disk or held in memory, and the share
            of hidden values. Its path is that of `data`.
        progress: told of steps; default: silent.

    Raises:
        ConfigError: the model does not fit the method, or the rows cannot be streamed.
        RunError: the folder is not empty, cannot be written, or training diverged.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    adapter = model.adapter_config
    if method is None:
        method = _method_of(adapter)
    sections: dict[str, Any] = {"plan": plan, "training": training, "data": reading}
    if adapter is not None:
        known = {f.name: getattr(adapter, f.name) for f in dataclasses.fields(adapter)}
        sections["adapter"] = MoEMLoRA(**known)
    config = RunConfig(
        method=method,
        seed=model.seed,
        backbone=model.backbone_config,
        **{name: section for name, section in sections.items() if section is not None},
    )
    _check_model(model, config, data)
    path = "synthetic" if data.path is None else str(data.path)
    reading = dataclasses.replace(config.data, path=path, domain=data.domain)
    config = dataclasses.replace(config, data=reading)
    return Trainer(config, data, RunFolder(out), model, progress).start(None)


def _check_model(model: CTRModel, config: RunConfig, data: Dataset) -> None:
    """Refuse a model that its own configuration would not build: it could not be loaded again.

    Raises:
        ConfigError: another type of number than float32, another schema, or a model that does not
            fit the method.
    """
    if model.embeddings.table.dtype != torch.float32:
        raise ConfigError(
            f"The model is {model.embeddings.table.dtype}; runs are trained and saved in float32. "
            "Call model.float() first."
        )
    if model.schema.fingerprint() != data.schema.fingerprint():
        raise ConfigError("The model was built with another schema than the data's.")
    if config.method == SEPARATE:
        raise ConfigError(
            f"method={SEPARATE!r} trains a model of its own for each domain, so it takes no model: "
            "call train_config, or `mdlora train --method separate`."
        )
    wanted = build_model(config, data.schema, data.vectors)
    if (wanted.backbone_config, wanted.adapter_config) != (
        model.backbone_config,
        model.adapter_config,
    ):
        raise ConfigError(
            f"method={config.method!r} does not fit this model, which has "
            f"{model.backbone_config} and adapters {model.adapter_config}. Leave method out, or "
            "build the model that the method needs."
        )


def train_config(
    config: RunConfig,
    data: Dataset,
    out: str | Path,
    *,
    progress: Progress | None = None,
    start_from: str | Path | None = None,
) -> Run:
    """Train what a configuration says.

    Args:
        config: method, seed and all sections.
        data: the rows.
        out: the run folder, new or empty.
        progress: told of steps.
        start_from: a finished run whose phases are the first ones of this plan, with the same
            seed, settings and data (a base run, or an mlora run for moe-mlora): its weights are
            taken over, bit for bit, in place of training those phases again.
    """
    data = data.only(config.data.domain)
    if config.method == SEPARATE:
        return train_separate(config, data, RunFolder(out), progress)
    model = build_model(config, data.schema, data.vectors)
    return Trainer(config, data, RunFolder(out), model, progress).start(start_from)


def resume(path: str | Path, *, progress: Progress | None = None, inexact: bool = False) -> Run:
    """Go on with an interrupted run, in the middle of a phase if need be.

    On one thread the final weights are bit-identical to those of a run never interrupted.

    Args:
        path: the run folder.
        progress: told of steps.
        inexact: go on even with another torch or numba, device or processor than before.

    Raises:
        RunError: not a run folder, or its data, torch, numba, the device or the processor changed.
    """
    folder = RunFolder(path)
    config = folder.config()
    data = load_run_data(folder, config)
    if config.method == SEPARATE:
        return resume_separate(config, data, folder, progress, inexact)
    model = build_model(config, data.schema, data.vectors)
    return Trainer(config, data, folder, model, progress).resume(inexact)
