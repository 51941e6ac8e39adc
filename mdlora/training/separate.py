"""One independent model for each domain: a run of runs."""

from __future__ import annotations

import dataclasses
from typing import Any

from mdlora.config import RunConfig
from mdlora.data import Dataset
from mdlora.domain_models import DomainModels
from mdlora.errors import ConfigError
from mdlora.evaluation.statistics import finite
from mdlora.model import CTRModel
from mdlora.training.build import build_model
from mdlora.training.environment import describe_environment, pick_device
from mdlora.training.judging import check_validation
from mdlora.training.plan import make_plan
from mdlora.training.progress import Progress, SilentProgress
from mdlora.training.run import Run, domain_run
from mdlora.training.run_folder import RunFolder
from mdlora.training.trainer import Trainer

__all__ = ["resume_separate", "train_separate"]


def train_separate(
    config: RunConfig, data: Dataset, folder: RunFolder, progress: Progress | None
) -> Run:
    """Train a base model for each domain on its own rows, each in a run folder inside `folder`.

    Raises:
        ConfigError: rows are to be streamed, or are those of one domain alone.
        DataError: the validation rows of a domain hold no clicks, or nothing else.
        RunError: the folder is not empty or cannot be written, or training diverged.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    if config.data.stream or config.data.domain is not None:
        raise ConfigError(
            f"method={config.method!r} takes the rows of each domain in turn: leave out "
            "data.stream and data.domain."
        )
    for name in data.schema.domain_names:
        part = data.only(name)
        check_validation(part.split("validation"), repr(part))
    about: dict[str, Any] = describe_environment(
        config.training.threads, pick_device(config.training.device)
    )
    about["data"] = data.fingerprint()
    rows = {name: len(data.split(name)) for name in ("train", "validation")}
    about["rows"] = rows
    folder.create(config, data.schema, make_plan(config), about)
    return _go(config, data, folder, progress, inexact=False)


def resume_separate(
    config: RunConfig, data: Dataset, folder: RunFolder, progress: Progress | None, inexact: bool
) -> Run:
    """Go on with the domain that was being trained, and then the rest."""
    folder.remove_leftovers()
    return _go(config, data, folder, progress, inexact)


def _go(
    config: RunConfig, data: Dataset, folder: RunFolder, progress: Progress | None, inexact: bool
) -> Run:
    progress = progress or SilentProgress()
    runs = []
    for index, name in enumerate(data.schema.domain_names, 1):
        progress.note(f"domain {name}, {index} of {data.schema.num_domains}")
        runs.append(_train_one(config, data.only(name), folder, index, progress, inexact))
    models = [run.model for run in runs if isinstance(run.model, CTRModel)]
    whole = Run(folder, config, DomainModels(models))
    if not folder.metrics():
        folder.append(_summary(whole, runs, data))
        folder.write_domains(whole.model, data.train_counts)
    return whole


def _train_one(
    config: RunConfig,
    data: Dataset,
    folder: RunFolder,
    index: int,
    progress: Progress,
    inexact: bool,
) -> Run:
    assert data.domain is not None
    path = domain_run(folder.path, index, data.domain)
    own = dataclasses.replace(
        config, method="base", data=dataclasses.replace(config.data, domain=data.domain)
    )
    part = RunFolder(path)
    model = build_model(own, data.schema, data.vectors)
    trainer = Trainer(own, data, part, model, progress)
    begun = (path / "env.json").exists()
    return trainer.resume(inexact) if begun else trainer.start(None)


def _summary(whole: Run, runs: list[Run], data: Dataset) -> dict[str, Any]:
    """The line of metrics that stands for all models; each run has its own curve."""
    ends = [next(line for line in run.metrics() if line.get("end")) for run in runs]
    result = whole.evaluate("validation", data)
    return {
        "phase": "backbone",
        "end": True,
        "epochs": max(end["epochs"] for end in ends),
        "best_epochs": [epoch for end in ends for epoch in end["best_epochs"]],
        "route": "none",
        "judged_by_log_loss": [],
        "judged_by_mean": [],
        "seconds": round(sum(end["seconds"] for end in ends), 3),
        "cpu_seconds": round(sum(end["cpu_seconds"] for end in ends), 3),
        "wauc": finite(result.wauc),
        "mean_auc": finite(result.mean_auc),
        "log_loss": finite(result.log_loss),
        "auc": {domain.name: domain.auc for domain in result.domains},
    }
