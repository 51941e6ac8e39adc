from __future__ import annotations

from types import SimpleNamespace

from mdlora.reports import result_notes


class Data:
    """Two splits with unseen values."""

    def split(self, name):
        return SimpleNamespace(unseen={"user": 1200 if name == "test" else 0, "item": 0})


def facts(method="mlora", seed=1, **changes):
    plain = {
        "method": method, "backbone": "wdl", "seed": seed, "route": "own", "left_out": [],
        "judged_by_log_loss": [], "judged_by_mean": [], "kept_before_gate": False, "clipped": {},
    }  # fmt: skip
    return plain | changes


def test_each_note_is_given_once_for_all_runs():
    runs = [
        facts("base", left_out=["b"]),
        facts(left_out=["b"], judged_by_log_loss=["d", "c"], clipped={"hidden.0": 24}),
        facts(seed=2, judged_by_log_loss=["c"], judged_by_mean=["e"], clipped={"hidden.0": 24}),
        facts("moe-mlora", kept_before_gate=True),
        facts("moe-mlora", seed=2, route="gate"),
    ]
    assert result_notes(runs, Data()) == [
        "Domains b: left out of WAUC, because their test rows hold one class.",
        "Domains c, d: too few validation rows of a class: adapters stopped by log loss.",
        "Domains e: no validation rows: adapters stopped by the other domains' mean.",
        "Layer hidden.0 of wdl: the temperature's rank was clipped to 24.",
        "1,200 test rows have a user that training never saw.",
        "The state before the gate validated best, and was kept: moe-mlora on wdl, seed 1.",
    ]
    assert result_notes(runs[4:], Data()) == [
        "1,200 test rows have a user that training never saw."
    ]
