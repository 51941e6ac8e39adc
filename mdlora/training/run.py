"""A finished run, and the model that it gives back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mdlora.config import SEPARATE, RunConfig, counted
from mdlora.config.checks import check_choice
from mdlora.data import Dataset, Rows, Split, load_dataset, open_rows
from mdlora.data.sources import CsvOptions
from mdlora.domain_models import DomainModels
from mdlora.embeddings import vector_placeholders
from mdlora.errors import DataError, RunError
from mdlora.evaluation import (
    BootstrapIntervals,
    EvaluationResult,
    bootstrap_intervals,
    evaluate_scores,
    score_rows,
)
from mdlora.files import atomic_file
from mdlora.model import CTRModel
from mdlora.schema import Schema
from mdlora.training.build import build_model
from mdlora.training.environment import pick_device, use_threads
from mdlora.training.run_folder import RunFolder
from mdlora.training.scored import write_scored
from mdlora.training.weights import adapter_file_name, load_weights, read_tensors

__all__ = ["Run", "load", "load_run"]


class Run:
    """A finished run: its model, its data, its figures."""

    def __init__(
        self, folder: RunFolder, config: RunConfig, model: CTRModel | DomainModels
    ) -> None:
        self.folder = folder
        self.config = config
        self.model = model

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}, method={self.config.method!r})"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    def data(self) -> Dataset:
        """The data that the run was trained on.

        Raises:
            RunError: the run does not say, or the data are not what they were.
        """
        return load_run_data(self.folder, self.config)

    def evaluate(self, split: str = "test", data: Dataset | None = None) -> EvaluationResult:
        """Figures of one split of the run's data, or of other data with the same columns."""
        return self.evaluate_with_intervals(split, data, replicates=0)[0]

    def evaluate_with_intervals(
        self,
        split: str = "test",
        data: Dataset | None = None,
        *,
        replicates: int = 200,
        seed: int = 0,
    ) -> tuple[EvaluationResult, BootstrapIntervals | None]:
        """Figures of one split, and 95 % intervals by bootstrap over users (rows, without users).

        Args:
            split: "train", "validation" or "test".
            data: other data than the run's own; encoded by the run's schema.
            replicates: bootstrap draws; 0 gives no intervals.
            seed: of the draws.
        """
        schema = self.model.schema
        return self.evaluate_rows(
            (data or self.data()).encoded_by(schema).split(split), replicates=replicates, seed=seed
        )

    def evaluate_rows(
        self,
        rows: Split,
        *,
        replicates: int = 200,
        seed: int = 0,
        unknown_domain: Literal["backbone", "error"] = "backbone",
    ) -> tuple[EvaluationResult, BootstrapIntervals | None]:
        """As `evaluate_with_intervals`, for rows encoded by the run's schema (`read_split`).

        Raises:
            DataError: a row is of an unknown domain, where that is an error.
        """
        check_choice("unknown_domain", unknown_domain, ("backbone", "error"))
        if unknown_domain == "error" and (unknown := rows.domain == 0).any():
            raise DataError(
                f"The {rows.name} rows hold {counted(int(unknown.sum()), 'row')} of a domain that "
                "the run was not trained on, the first of them row "
                f"{int(unknown.nonzero()[0])} (counted from 0). Drop these "
                "rows, or let the backbone alone score them."
            )
        with use_threads(self.config.training.threads):
            logits = self._score(rows)
        names = self.model.schema.domain_names
        result = evaluate_scores(logits, rows.label, rows.domain, names, oracle=rows.oracle)
        if not replicates:
            return result, None
        intervals = bootstrap_intervals(
            logits,
            rows.label,
            rows.domain,
            names,
            users=rows.users,
            replicates=replicates,
            seed=seed,
        )
        return result, intervals

    def predict_file(
        self,
        rows: str | Path,
        out: str | Path,
        *,
        unknown_domain: Literal["backbone", "error"] = "backbone",
        csv: CsvOptions | None = None,
    ) -> dict[str, Any]:
        """Write rows as a Parquet file with a column `score`, the click probability.

        Rows and columns keep their order; `score` is float32. Unseen values count as out of
        vocabulary. Rows are read, scored and written part by part, so that memory does not grow
        with them.

        Args:
            rows: Parquet or CSV: a file, a folder, a glob or a URL.
            out: the Parquet file to write.
            unknown_domain: score rows of unknown domains by the backbone alone, or raise an
                error.
            csv: how CSV is written, where the files do not show it.

        Returns:
            "rows"; "unseen": for each field, how many rows have a value not in training (for
            lists, items); "missing": for each numeric column, rows without a value; "cut": for
            each list column, rows whose list was longer than its maximum.

        Raises:
            DataError: the rows do not fit the schema, have a column `score` already, or are of an
                unknown domain where that is an error.
            MissingExtraError: a URL needs fsspec.
            RunError: `out` cannot be written.
        """
        reader = open_rows(rows, self.model.schema, csv=csv)
        if "score" in reader.types:
            raise DataError(f"{rows} has a column `score` already; rename or drop it first.")
        with use_threads(self.config.training.threads), atomic_file(out) as file:
            return write_scored(
                file,
                reader,
                self.model.schema,
                self._score,
                batch_rows=self.config.training.eval_batch_size,
                unknown_domain=unknown_domain,
            )

    def _score(self, rows: Rows) -> Tensor:
        size = self.config.training.eval_batch_size
        return score_rows(self.model, rows, batch_size=size)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return self.folder.metrics()


def load_run_data(folder: RunFolder, config: RunConfig) -> Dataset:
    """The run's data, checked to be what they were.

    Raises:
        RunError: they have changed, or the run does not say where they are.
    """
    if config.data.path is None:
        raise RunError(
            f"{folder.path} was trained on data in memory; give the data to evaluate on."
        )
    data = load_dataset(config.data.path, domain=config.data.domain)
    was = folder.read_json("env.json").get("data")
    if data.fingerprint() != was:
        raise RunError(
            f"The data in {config.data.path} are not those that {folder.path} was trained on "
            f"(fingerprint {data.fingerprint()[:12]}, was {str(was)[:12]}). Prepare the same data "
            "again, or start a new run."
        )
    return data


def load_run(
    path: str | Path,
    which: Literal["best", "last"] = "best",
    *,
    device: Literal["auto", "cpu", "cuda"] | None = None,
) -> Run:
    """A run folder as a Run.

    Args:
        path: the run folder.
        which: "best", the weights that validation chose; or "last", those of the last step.
        device: where to score; default: what the run was trained with.

    Raises:
        RunError: not a run folder, not finished, or damaged.
    """
    folder = RunFolder(path)
    config = folder.config()
    schema = Schema.load(folder.path / "schema.json")
    if config.method == SEPARATE:
        return _load_separate(folder, config, schema, which, device)
    model = build_model(config, schema, vector_placeholders(schema))
    if which == "best":
        load_weights(model, folder.path)
    elif which == "last":
        tensors, about = read_tensors(folder.state_path)
        prefix = "last." if about.get("finished") else "model."
        model.load_tensors(
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        )
        if prefix == "last.":
            late = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            model.load_tensors(late)
        if model.adapted is not None:
            model.adapted.route_mode = about["last_route"] or about["route"]
    else:
        raise RunError(f"which={which!r} is not known; choose 'best' or 'last'.")
    if device is not None:
        training = dataclasses.replace(config.training, device=device)
        config = dataclasses.replace(config, training=training)
    model.to(pick_device(config.training.device)).eval()
    return Run(folder, config, model)


def domain_run(path: Path, index: int, name: str) -> Path:
    """The run folder of one domain's own model, inside the run folder of all of them."""
    return path / "models" / Path(adapter_file_name(index, name)).stem


def _load_separate(
    folder: RunFolder,
    config: RunConfig,
    schema: Schema,
    which: Literal["best", "last"],
    device: Literal["auto", "cpu", "cuda"] | None,
) -> Run:
    if not (folder.path / "domains.csv").exists():
        raise RunError(
            f"{folder.path} holds no finished weights: not all domains are trained. Go on with: "
            f"mdlora train --resume {folder.path}"
        )
    runs = [
        load_run(domain_run(folder.path, index, name), which, device=device)
        for index, name in enumerate(schema.domain_names, 1)
    ]
    models = [run.model for run in runs if isinstance(run.model, CTRModel)]
    training = dataclasses.replace(config.training, device=runs[0].config.training.device)
    return Run(folder, dataclasses.replace(config, training=training), DomainModels(models))


def load(path: str | Path, which: Literal["best", "last"] = "best") -> CTRModel | DomainModels:
    """The model of a run folder; see `load_run`."""
    return load_run(path, which).model
