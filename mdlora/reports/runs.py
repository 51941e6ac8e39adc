"""The report of one training run."""

from __future__ import annotations

from typing import Any

from mdlora.data import Dataset
from mdlora.evaluation import EvaluationResult, gate_report
from mdlora.reports.html import write_run_report
from mdlora.reports.types import RunReport
from mdlora.training import Run

__all__ = ["report_run"]


def report_run(run: Run, data: Dataset, result: EvaluationResult) -> None:
    """Write report.html into the run folder: figures, learning curves, gate, notes."""
    lines = run.metrics()
    config = run.config
    who = {"method": config.method, "backbone": config.backbone.name, "seed": config.seed}
    shown = ("phase", "epoch", "wauc", "train_loss")
    validation = data.encoded_by(run.model.schema).split("validation")
    gates = gate_report(run.model, validation.categories, validation.domain)
    write_run_report(
        run.path / "report.html",
        RunReport(
            title=f"{config.method} on {config.backbone.name}, seed {config.seed}",
            result=result.to_json(),
            curves=[{**who, **{k: at[k] for k in shown}} for at in lines if not at.get("end")],
            gates=[{**who, **gate} for gate in gates],
            notes=_notes(run, lines, data),
            environment=run.folder.read_json("env.json"),
        ),
    )


def _notes(run: Run, lines: list[dict[str, Any]], data: Dataset) -> list[str]:
    notes = []
    for end in (line for line in lines if line.get("end")):
        best = sorted(set(end["best_epochs"]))
        kept = f"{best[0]}" if len(best) == 1 else f"{best[0]} to {best[-1]}, by expert"
        notes.append(f"Phase {end['phase']}: {end['epochs']} epochs, best epoch {kept}.")
        for key, how in (
            ("judged_by_log_loss", "by log loss, for want of validation rows of each class"),
            ("judged_by_mean", "by the other domains' mean, for want of validation rows"),
        ):
            if end[key]:
                notes.append(f"Phase {end['phase']} stopped {', '.join(end[key])} {how}.")
    if run.model.has_gate and lines and lines[-1].get("route") == "own":
        notes.append(
            "The state before the gate validated best, and was kept: the route is MLoRA's."
        )
    for name, rank in run.folder.read_json("env.json").get("ranks", {}).items():
        if rank["clipped"]:
            notes.append(f"Layer {name}: the temperature's rank was clipped to {rank['rank']}.")
    for split in ("validation", "test"):
        for field, count in data.encoded_by(run.model.schema).split(split).unseen.items():
            if count:
                notes.append(f"{count:,} {split} rows have a {field} that training never saw.")
    return notes
