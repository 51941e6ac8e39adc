"""The files of a run's folder."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mdlora.config import Phase, RunConfig, config_to_yaml, load_config
from mdlora.data import RowCounts
from mdlora.domain_models import DomainModels
from mdlora.errors import RunError
from mdlora.files import atomic_directory, atomic_write_text
from mdlora.model import CTRModel
from mdlora.schema import Schema
from mdlora.training.weights import adapter_file_name

__all__ = ["RunFolder"]

STATE_FILE = Path("last") / "state.safetensors"


class RunFolder:
    """The files of a run.

    config.yaml, schema.json, plan.json, env.json are written at the start; metrics.jsonl grows;
    last/state.safetensors is what a resume needs; backbone.safetensors, adapters/,
    gate.safetensors and domains.csv hold the best weights once the run has ended.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics_path = self.path / "metrics.jsonl"
        self.state_path = self.path / STATE_FILE

    def create(
        self, config: RunConfig, schema: Schema, plan: tuple[Phase, ...], about: dict[str, Any]
    ) -> None:
        """Start a new run folder.

        Raises:
            RunError: there is something at this path already.
        """
        if (self.path / "env.json").exists():
            raise RunError(
                f"{self.path} holds a run already. Choose another --out, or go on with that run: "
                f"mdlora train --resume {self.path}"
            )
        phases = {"phases": [asdict(phase) for phase in plan]}
        with atomic_directory(self.path) as folder:
            atomic_write_text(folder / "config.yaml", config_to_yaml(config))
            atomic_write_text(folder / "schema.json", schema.to_json())
            atomic_write_text(folder / "plan.json", json.dumps(phases, indent=2) + "\n")
            atomic_write_text(folder / "metrics.jsonl", "")
            atomic_write_text(folder / "env.json", json.dumps(about, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files.

        Raises:
            RunError: this is no run folder, or the file is damaged.
        """
        path = self.path / name
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} is not a run folder: {name} is missing. Give the --out of an "
                "earlier `mdlora train`."
            ) from error
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}.") from error
        if not isinstance(plain, dict):
            raise RunError(f"{path} must hold a JSON object.")
        return plain

    def config(self) -> RunConfig:
        """The configuration that the run was started with."""
        self.read_json("env.json")  # says clearly when this is no run folder
        return load_config(self.path / "config.yaml")

    def append(self, line: dict[str, Any]) -> None:
        """Add a line of metrics; on disk when this returns."""
        try:
            with self.metrics_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"Cannot write {self.metrics_path}: {error.strerror}.") from error

    def metrics_size(self) -> int:
        """Bytes of metrics so far."""
        return self.metrics_path.stat().st_size

    def truncate_metrics(self, size: int) -> None:
        """Drop what was written after a checkpoint.

        Raises:
            RunError: the file is missing, cannot be written, or is shorter than that.
        """
        try:
            if self.metrics_size() < size:
                raise RunError(
                    f"{self.metrics_path} is shorter than at the last checkpoint, so lines were "
                    "lost. Restore it, or start a new run."
                )
            with self.metrics_path.open("r+b") as file:
                file.truncate(size)
        except OSError as error:
            raise RunError(f"Cannot write {self.metrics_path}: {error.strerror}.") from error

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics."""
        try:
            text = self.metrics_path.read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines()]
        except (OSError, ValueError) as error:
            raise RunError(f"{self.metrics_path} cannot be read: {error}.") from error

    def write_domains(self, model: CTRModel | DomainModels, counts: RowCounts) -> None:
        """domains.csv: names, ids, training rows, clicks, adapter files."""
        out = io.StringIO()
        table = csv.writer(out)
        table.writerow(["id", "domain", "train_rows", "train_clicks", "adapter_file"])
        rows, clicks = counts.rows.tolist(), counts.clicks.tolist()
        for index, name in enumerate(model.schema.domain_names, 1):
            file = f"adapters/{adapter_file_name(index, name)}" if model.adapted else ""
            table.writerow([index, name, rows[index], clicks[index], file])
        atomic_write_text(self.path / "domains.csv", out.getvalue())
