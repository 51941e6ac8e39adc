"""What one set of scores is worth: WAUC, AUC by domain, log loss and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mdlora.errors import DataError
from mdlora.evaluation.formats import escape_cell
from mdlora.evaluation.statistics import finite
from mdlora.evaluation.tables import evaluation_domain_table, evaluation_table
from mdlora.metrics import (
    auc,
    calibration,
    grouped_auc,
    grouped_calibration,
    grouped_log_loss,
    log_loss,
    mean_auc,
    weighted_auc,
)

__all__ = ["DomainResult", "EvaluationResult", "evaluate_scores", "group_names"]

UNKNOWN_DOMAIN = "(unknown)"


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainResult:
    """One domain's share of a result; None where the rows cannot give the number."""

    name: str
    rows: int
    clicks: int
    auc: float | None
    """Area under the ROC curve; None where the rows hold one class or there are none."""
    log_loss: float | None
    """Mean nats; None where the domain has no rows."""
    calibration: float | None
    """Predicted over observed clicks; None where there are no clicks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """The metrics of one split. AUCs are fractions; None where no domain can give the number."""

    wauc: float | None
    """AUC by domain, weighted by rows, over the domains that have an AUC."""
    mean_auc: float | None
    """The plain mean over the same domains."""
    overall_auc: float | None
    """AUC of all rows together, across domains."""
    log_loss: float
    calibration: float | None
    rows: int
    clicks: int
    domains: tuple[DomainResult, ...]
    """In the order of the schema; rows of an unknown domain come last, as their own group."""
    left_out: tuple[str, ...]
    """Domains without an AUC: their rows hold one class, or there are none."""
    oracle_wauc: float | None = None
    """WAUC of the true click probabilities, where they are known: the best a model can do."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict of fractions and counts, ready for `json.dumps`: None, never NaN."""
        plain = asdict(self)
        plain["domains"] = list(plain["domains"])
        plain["left_out"] = list(self.left_out)
        return plain

    def to_markdown(self) -> str:
        """Two Markdown tables: the whole split, then one row for each domain. AUCs are in %."""
        plain = self.to_json()
        text = f"{evaluation_table(plain).to_markdown()}\n"
        text += evaluation_domain_table(plain).to_markdown()
        if self.left_out:
            names = ", ".join(escape_cell(name) for name in self.left_out)
            text += f"\nLeft out of WAUC, for want of clicks and non-clicks: {names}.\n"
        return text


def evaluate_scores(
    logits: Tensor,
    labels: Tensor,
    domain_ids: Tensor,
    domain_names: Sequence[str],
    *,
    oracle: Tensor | None = None,
) -> EvaluationResult:
    """Score one split: exact AUCs, log loss and calibration, overall and by domain.

    Rows of an unknown domain (id 0) are a group of their own called "(unknown)", which counts in
    WAUC as any domain does.

    Args:
        logits: (N,) float32 or float64, before the sigmoid.
        labels: (N,) of 0 and 1.
        domain_ids: (N,) int64; 0 is an unknown domain, d stands for domain_names[d - 1].
        domain_names: the D names.
        oracle: (N,) true click probabilities, where the data were simulated.

    Raises:
        DataError: no rows, logits that are not finite (the message says how many), or labels
            and domain ids that do not fit.
    """
    check_logits(logits)
    # The unknown domain moves from 0 to the end: domain d is group d - 1.
    names = group_names(domain_names)
    groups = torch.where(domain_ids == 0, len(domain_names), domain_ids - 1)
    grouped = grouped_auc(logits, labels, groups, len(names))
    losses = grouped_log_loss(logits, labels, groups, len(names))
    ratios = grouped_calibration(logits, labels, groups, len(names))
    domains = tuple(
        DomainResult(
            name=name,
            rows=int(grouped.rows[i]),
            clicks=int(grouped.positives[i]),
            auc=finite(grouped.auc[i]),
            log_loss=finite(losses[i]),
            calibration=finite(ratios[i]),
        )
        for i, name in enumerate(names)
        if i < len(domain_names) or grouped.rows[i] > 0
    )
    ceiling = None
    if oracle is not None:
        ceiling = finite(weighted_auc(grouped_auc(oracle, labels, groups, len(names))))
    return EvaluationResult(
        wauc=finite(weighted_auc(grouped)),
        mean_auc=finite(mean_auc(grouped)),
        overall_auc=finite(auc(logits, labels)),
        log_loss=log_loss(logits, labels),
        calibration=finite(calibration(logits, labels)),
        rows=int(grouped.rows.sum()),
        clicks=int(grouped.positives.sum()),
        domains=domains,
        left_out=tuple(d.name for d in domains if d.auc is None),
        oracle_wauc=ceiling,
    )


def check_logits(logits: Tensor) -> None:
    """Refuse an empty split and logits that are NaN or infinite."""
    if logits.numel() == 0:
        raise DataError("There are no rows to evaluate: the split is empty.")
    wrong = int((~torch.isfinite(logits)).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {logits.numel()} logits are NaN or infinite, so the model diverged. "
            "Lower the learning rate or look at the inputs."
        )


def group_names(domain_names: Sequence[str]) -> list[str]:
    """The domains' names followed by that of the unknown domain, which differs from all of them."""
    unknown = UNKNOWN_DOMAIN
    while unknown in domain_names:
        unknown = f"({unknown})"
    return [*domain_names, unknown]
