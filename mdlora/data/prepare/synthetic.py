"""A synthetic multi-domain click log whose true click probabilities are known.

Row i shows item v to user u at hour c in domain d, and is clicked with probability
sigmoid(logit_i), where

    logit_i = a + bias_d + context_c + u.v + shift * u' P_d Q_d' v + noise * N(0, 1)

* `u` and `v` (K = `latent` wide) are a mean vector plus the normalised sum of one random vector
  per *observed* attribute value of the user or item; a share `id_share` of the variance of that
  sum is instead their own, to be learned from the id alone. The length of the means sets which
  share of the variance of u.v the user or the item shows alone, `main_effects` (on average over
  seeds); the rest is taste, which only the pair shows. The domain's own term is alike.
* `u.v` is what all domains share; its standard deviation over the rows is `signal` logits.
* `P_d Q_d'` (K, K) has rank `rank` and is what sets domain d apart. It is scaled so that at
  shift 1 its term has the same standard deviation over the rows as u.v, and alike in all domains.
  At shift 0 the term is zero.
* The noise is part of the true logit, but no feature shows it: a model cannot learn it, and the
  oracle, which is the very probability that the click was drawn with, does contain it.
* `a` is set so that the expected click rate over all rows is `click_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mdlora.data.layout import ORACLE_COLUMN
from mdlora.data.prepare.synthetic_config import MIN_DOMAIN_ROWS, SyntheticConfig
from mdlora.data.splits import stratified_split
from mdlora.data.write import PreparedRows, prepare_rows, write_dataset
from mdlora.files import check_new_directory
from mdlora.schema import Categorical, Column, Domain, Label

__all__ = [
    "DEMO_CONFIG",
    "SyntheticLog",
    "generate_synthetic",
    "prepare_synthetic",
    "synthetic_columns",
    "synthetic_rows",
]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

DEMO_CONFIG = SyntheticConfig(
    rows=120_000, domains=8, users=1_000, items=300, size_ratio=10.0, seed=1
)
"""The built-in log of `load_dataset("synthetic")`."""

HOURS = 24
CLUSTER_SHARE = 0.9  # of the variance of P_d and of Q_d that domains of one cluster share


@dataclass(frozen=True, eq=False)
class SyntheticLog:
    """A generated log (N rows, D domains, K latent width) and the parts of its logits."""

    columns: dict[str, npt.NDArray[Any]]
    """The raw columns, (N,) each, with the label and "oracle_probability"."""

    shared_term: Floats
    """(N,) u.v in logits."""

    shift_term: Floats
    """(N,) shift * u' P_d Q_d' v in logits."""

    matrices: Floats
    """(D, K, K) P_d Q_d', scaled as for shift 1."""


def generate_synthetic(config: SyntheticConfig) -> SyntheticLog:
    """Draw a log; equal configs give equal logs."""
    rng = np.random.default_rng(config.seed)
    domain = rng.permutation(np.repeat(np.arange(config.domains), _domain_sizes(config)))
    users = _side(rng, config.users, config.user_fields, config)
    items = _side(rng, config.items, config.item_fields, config)
    user = _popular(rng, config.users, config)
    item = _popular(rng, config.items, config)
    hour = rng.integers(0, HOURS, config.rows)

    shared = _by_chunk(lambda rows: _dots(users.vectors[user[rows]], items.vectors[item[rows]]),
                       config.rows)  # fmt: skip
    scale = config.signal / _std(shared)
    shared *= scale
    matrices = _domain_matrices(rng, config, users.mean, items.mean)
    some = slice(0, 4096)  # of the rows, to make the domains' spreads alike
    matrices /= _spreads(users.vectors[user[some]], items.vectors[item[some]], matrices)
    raw = _shift_term(users.vectors, items.vectors, matrices, user, item, domain)
    spread = _std(raw)
    matrices *= config.signal / spread
    shift_term = raw * (config.shift * config.signal / spread)

    logits = shared + shift_term
    logits += (config.domain_bias * rng.standard_normal(config.domains))[domain]
    logits += (config.context * rng.standard_normal(HOURS))[hour]
    noise = rng.standard_normal(config.rows)
    if config.noise:
        logits += config.noise * noise
    logits += _intercept(logits, config.click_rate)
    probability = _sigmoid(logits)
    click = rng.random(config.rows) < probability

    names = np.array(_domain_names(config.domains))
    columns: dict[str, npt.NDArray[Any]] = {"user_id": user + 1, "item_id": item + 1}
    columns |= {f"user_f{f + 1}": values[user] for f, values in enumerate(users.attributes)}
    columns |= {f"item_f{f + 1}": values[item] for f, values in enumerate(items.attributes)}
    columns |= {
        "hour": hour.astype(np.int16),
        "domain": names[domain],
        "click": click.astype(np.int8),
        ORACLE_COLUMN: probability,
    }
    return SyntheticLog(columns, shared, shift_term, matrices)


def synthetic_columns(config: SyntheticConfig) -> list[Column]:
    """The specs of the schema's columns: ids, attributes, hour, domain and the label."""
    return [
        Categorical("user_id", role="user"),
        Categorical("item_id", role="item"),
        *(Categorical(f"user_f{f + 1}") for f in range(config.user_fields)),
        *(Categorical(f"item_f{f + 1}") for f in range(config.item_fields)),
        Categorical("hour"),
        Domain("domain"),
        Label("click"),
    ]


def synthetic_rows(config: SyntheticConfig) -> PreparedRows:
    """Draw a log and split it 3:1:1, stratified by domain and label, in memory."""
    columns = generate_synthetic(config).columns
    codes = stratified_split(columns["domain"], columns["click"], seed=config.seed)
    names = pa.array(columns.pop("domain")).dictionary_encode()
    table = pa.table({**columns, "domain": names})
    return prepare_rows(
        table,
        codes,
        synthetic_columns(config),
        source="synthetic",
        options={**asdict(config), "ratio": [3, 1, 1]},
    )


def prepare_synthetic(out: str | Path, **options: Any) -> dict[str, Any]:
    """Write a synthetic data folder and return its summary.

    Args:
        out: the folder to make.
        options: fields of `SyntheticConfig`, for example rows=100_000, shift=0.5.

    Raises:
        ConfigError: an option is out of range.
        RunError: `out` is there already or cannot be written.
    """
    config = SyntheticConfig(**options)
    check_new_directory(out)
    return write_dataset(out, synthetic_rows(config))


@dataclass(frozen=True, eq=False)
class _Side:
    """All users, or all items: one (M,) array of attributes a field, vectors (M, K), mean (K,)."""

    attributes: list[npt.NDArray[np.int16]]
    vectors: Floats
    mean: Floats


def _side(rng: np.random.Generator, num: int, fields: int, config: SyntheticConfig) -> _Side:
    values = rng.integers(0, config.field_values, (fields, num))
    tables = rng.standard_normal((fields, config.field_values, config.latent))
    seen = sum(tables[f][values[f]] for f in range(fields)) / math.sqrt(fields)
    own = rng.standard_normal((num, config.latent))
    vectors = math.sqrt(1 - config.id_share) * seen + math.sqrt(config.id_share) * own
    # With means of length sqrt(m K), each side alone makes up m parts of 2 m + 1 of the variance.
    m = config.main_effects / (2 * (1 - config.main_effects))
    direction = rng.standard_normal(config.latent)
    mean = direction * (math.sqrt(m * config.latent) / float(np.linalg.norm(direction)))
    return _Side(list(values.astype(np.int16)), vectors + mean, mean)


def _popular(rng: np.random.Generator, num: int, config: SyntheticConfig) -> Ids:
    """Rows of users or items by Zipf's law, (N,); which of them is popular is random."""
    weight = np.arange(1, num + 1, dtype=np.float64) ** -config.popularity
    ends = np.cumsum(weight)
    place = np.searchsorted(ends, rng.random(config.rows) * ends[-1], side="right")
    return np.asarray(rng.permutation(num)[np.minimum(place, num - 1)])


def _domain_sizes(config: SyntheticConfig) -> Ids:
    """Rows of each domain, falling geometrically; each has `MIN_DOMAIN_ROWS` at least."""
    steps = np.arange(config.domains) / max(config.domains - 1, 1)
    share = config.size_ratio**-steps
    spare = config.rows - MIN_DOMAIN_ROWS * config.domains
    exact = spare * share / share.sum()
    sizes = np.floor(exact).astype(np.int64) + MIN_DOMAIN_ROWS
    sizes[: config.rows - sizes.sum()] += 1
    return np.asarray(sizes)


def _domain_matrices(
    rng: np.random.Generator, config: SyntheticConfig, user_mean: Floats, item_mean: Floats
) -> Floats:
    """P_d Q_d', (D, K, K), not yet scaled; domains of one cluster share most of P and Q."""
    shape = (2, config.domains, config.latent, config.rank)
    factors = rng.standard_normal(shape)
    if config.clusters:
        centres = rng.standard_normal((2, config.clusters, *shape[2:]))
        centres = centres[:, np.arange(config.domains) % config.clusters]
        factors = math.sqrt(CLUSTER_SHARE) * centres + math.sqrt(1 - CLUSTER_SHARE) * factors
    p, q = factors
    if config.main_effects:
        # Turn Q_d so that the means alone give mean' P_d Q_d' mean = 0: a domain's constant is
        # bias_d and nothing else.
        left, right = user_mean @ p, item_mean @ q  # (D, R) each
        size = (left * left).sum(axis=1) * (item_mean @ item_mean)
        surplus = (left * right).sum(axis=1) / size
        q = q - surplus[:, None, None] * item_mean[:, None] * left[:, None, :]
    return np.asarray(p @ q.transpose(0, 2, 1))


def _spreads(left: Floats, right: Floats, matrices: Floats) -> Floats:
    """Standard deviation of u' M_d v over the given pairs, (D, 1, 1)."""
    spreads = [_std(_dots(left @ matrix, right)) for matrix in matrices]
    return np.array(spreads)[:, None, None]


def _shift_term(
    users: Floats, items: Floats, matrices: Floats, user: Ids, item: Ids, domain: Ids
) -> Floats:
    """Term u' M_d v of each row, (N,), one domain after another."""
    term = np.empty(domain.size)
    order = np.argsort(domain, kind="stable")
    ends = np.cumsum(np.bincount(domain, minlength=len(matrices)))
    for d, rows in enumerate(np.split(order, ends[:-1])):
        term[rows] = _dots(users[user[rows]] @ matrices[d], items[item[rows]])
    return term


def _by_chunk(compute: Callable[[slice], Floats], rows: int, size: int = 1 << 17) -> Floats:
    return np.concatenate([compute(slice(at, at + size)) for at in range(0, rows, size)])


def _dots(left: Floats, right: Floats) -> Floats:
    return np.asarray(np.einsum("nk,nk->n", left, right))


def _std(values: Floats) -> float:
    return float(values.std())


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def _intercept(logits: Floats, click_rate: float) -> float:
    """The number to add so that the mean probability is `click_rate`, by bisection."""
    bound = float(np.abs(logits).max()) + 20.0
    low, high = -bound, bound
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _sigmoid(logits + middle).mean() < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _domain_names(num: int) -> list[str]:
    width = max(2, len(str(num)))
    return [f"domain_{d:0{width}d}" for d in range(1, num + 1)]
