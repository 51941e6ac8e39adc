from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mdlora.data import ORACLE_COLUMN, load_dataset
from mdlora.data.prepare import SyntheticConfig, generate_synthetic, prepare_synthetic
from mdlora.errors import ConfigError, RunError

CONFIG = SyntheticConfig(
    rows=60_000, domains=6, users=3_000, items=1_000, size_ratio=20, latent=8, rank=4
)
LOG = generate_synthetic(CONFIG)


def small(**change: object) -> SyntheticConfig:
    plain: dict[str, object] = {"rows": 20_000, "domains": 6, "users": 2_000, "items": 500}
    plain |= {"latent": 8, "rank": 4}
    return SyntheticConfig(**(plain | change))  # type: ignore[arg-type]


def wauc(columns: dict[str, np.ndarray], score: np.ndarray) -> float:
    total = 0.0
    for domain in np.unique(columns["domain"]):
        rows = columns["domain"] == domain
        total += rows.sum() * roc_auc_score(columns["click"][rows], score[rows])
    return total / len(score)


def test_the_oracle_is_good_and_its_parts_are_not_enough():
    oracle = wauc(LOG.columns, LOG.columns[ORACLE_COLUMN])
    assert 0.8 < oracle < 0.95
    assert wauc(LOG.columns, LOG.shared_term) < oracle - 0.03
    assert wauc(LOG.columns, LOG.shift_term) < oracle - 0.03


def test_the_oracle_is_the_probability_of_a_click():
    probability, click = LOG.columns[ORACLE_COLUMN], LOG.columns["click"]
    for rows in np.array_split(np.argsort(probability), 10):
        error = np.sqrt((probability[rows] * (1 - probability[rows])).sum()) / len(rows)
        assert abs(click[rows].mean() - probability[rows].mean()) < 4 * error
    assert abs(probability.mean() - CONFIG.click_rate) < 1e-5


def test_the_shift_is_as_strong_as_what_is_shared():
    assert LOG.shared_term.std() == pytest.approx(CONFIG.signal)
    assert LOG.shift_term.std() == pytest.approx(CONFIG.signal)
    for domain in np.unique(LOG.columns["domain"]):
        spread = LOG.shift_term[LOG.columns["domain"] == domain].std()
        assert spread == pytest.approx(CONFIG.signal, rel=0.15)
    half = generate_synthetic(small(shift=0.5))
    assert half.shift_term.std() == pytest.approx(0.5 * CONFIG.signal)


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_the_rank_is_the_rank(rank: int):
    for change in ({}, {"clusters": 2}, {"main_effects": 0.0}):
        log = generate_synthetic(small(rank=rank, **change))
        assert log.matrices.shape == (6, 8, 8)
        assert np.linalg.matrix_rank(log.matrices).tolist() == [rank] * 6


def test_no_shift_is_exactly_none():
    log = generate_synthetic(small(shift=0.0, domain_bias=0.0, context=0.0))
    assert not log.shift_term.any()
    # All that is left is u.v and one constant, the same in all domains.
    probability = log.columns[ORACLE_COLUMN]
    constant = np.log(probability / (1 - probability)) - log.shared_term
    np.testing.assert_allclose(constant, constant[0], atol=1e-9)


def test_attributes_tell_all_unless_the_ids_have_a_share():
    # One user and item field of 2 values: 4 kinds of pairs, so at most 4 values of u.v.
    plain = small(user_fields=1, item_fields=1, field_values=2)
    assert len(np.unique(generate_synthetic(plain).shared_term.round(9))) == 4
    own = small(user_fields=1, item_fields=1, field_values=2, id_share=0.5)
    assert len(np.unique(generate_synthetic(own).shared_term.round(9))) > 1_000


def test_main_effects_are_their_share_of_the_variance():
    # Regressing u.v on one-hot attributes leaves the taste: 1 - main_effects, averaged over seeds.
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import OneHotEncoder

    for share, tolerance in ((0.0, 0.12), (0.6, 0.15)):
        found = []
        for seed in range(4):
            log = generate_synthetic(small(main_effects=share, popularity=0.0, seed=seed))
            names = [name for name in log.columns if name.startswith(("user_f", "item_f"))]
            x = OneHotEncoder().fit_transform(np.stack([log.columns[n] for n in names], axis=1))
            found.append(LinearRegression().fit(x, log.shared_term).score(x, log.shared_term))
        assert abs(np.mean(found) - share) < tolerance


def test_domains_of_a_cluster_are_alike():
    flat = generate_synthetic(small(clusters=2)).matrices.reshape(6, -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    cosine = flat @ flat.T
    same = np.arange(6)[:, None] % 2 == np.arange(6) % 2
    assert cosine[same].min() > 0.6
    assert abs(cosine[~same]).max() < 0.5


def test_noise_is_in_the_oracle():
    noisy, plain = (generate_synthetic(small(noise=n)) for n in (2.0, 0.0))
    np.testing.assert_array_equal(noisy.shared_term, plain.shared_term)
    logits = [np.log(p / (1 - p)) for p in (x.columns[ORACLE_COLUMN] for x in (noisy, plain))]
    added = logits[0] - logits[1]
    assert added.std() == pytest.approx(2.0, rel=0.03)
    for name in ("user_id", "item_id", "user_f1", "hour"):
        np.testing.assert_array_equal(noisy.columns[name], plain.columns[name])


def test_domain_sizes_fall_from_large_to_tiny():
    sizes = np.unique(LOG.columns["domain"], return_counts=True)[1]
    assert sizes.sum() == CONFIG.rows
    assert (np.diff(sizes) < 0).all()
    assert sizes[0] / sizes[-1] == pytest.approx(20, rel=0.1)
    tiny = generate_synthetic(SyntheticConfig(rows=2_000, domains=20, users=50, items=50))
    assert np.unique(tiny.columns["domain"], return_counts=True)[1].tolist() == [100] * 20


def test_popular_users_follow_zipf():
    # At exponent 1 the second user has half the rows of the first, the fourth a quarter.
    log = generate_synthetic(small(popularity=1.0, users=100, rows=100_000))
    count = np.sort(np.bincount(log.columns["user_id"]))[::-1]
    assert count[1] / count[0] == pytest.approx(1 / 2, rel=0.06)
    assert count[3] / count[0] == pytest.approx(1 / 4, rel=0.06)
    even = generate_synthetic(small(popularity=0.0, users=100, rows=100_000))
    assert np.bincount(even.columns["user_id"])[1:].min() > 850


def test_the_seed_decides():
    first, again = generate_synthetic(small()), generate_synthetic(small())
    for name, values in first.columns.items():
        np.testing.assert_array_equal(values, again.columns[name])
    other = generate_synthetic(small(seed=2))
    assert (first.columns["click"] != other.columns["click"]).any()


def test_the_folder(tmp_path: Path):
    summary = prepare_synthetic(tmp_path / "d", rows=20_000, domains=6, users=900, items=300)
    data = load_dataset(tmp_path / "d")
    assert data.schema.field_names == (
        "user_id", "item_id",
        *(f"user_f{i}" for i in range(1, 7)), *(f"item_f{i}" for i in range(1, 7)),
        "hour", "domain",
    )  # fmt: skip
    assert data.schema.label.name == "click"
    assert data.schema.domain_names == tuple(f"domain_0{d}" for d in range(1, 7))
    assert data.oracle_available
    splits = {name: data.split(name) for name in ("train", "validation", "test")}
    assert [len(s) for s in splits.values()] == pytest.approx([12_000, 4_000, 4_000], abs=12)
    for split in splits.values():
        assert torch_bincount(split.domain).min() > 0
        assert 0.22 < float(split.label.mean()) < 0.28
    assert summary["options"]["shift"] == 1.0
    assert summary["options"]["users"] == 900
    with pytest.raises(RunError, match="is there already"):
        prepare_synthetic(tmp_path / "d", rows=2_000, domains=6)


def torch_bincount(domain) -> np.ndarray:
    return np.bincount(domain.numpy(), minlength=7)[1:]


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("rows", 10),
        ("rows", 1e6),
        ("domains", 0),
        ("shift", -0.1),
        ("shift", float("nan")),
        ("rank", 0),
        ("rank", 9),
        ("clusters", 21),
        ("noise", -1),
        ("id_share", 1.1),
        ("main_effects", 1.0),
        ("click_rate", 0),
        ("popularity", "high"),
        ("size_ratio", 0.5),
        ("seed", -1),
        ("users", True),
    ],
)
def test_a_knob_out_of_range_is_named(knob: str, value: object):
    with pytest.raises(ConfigError, match=rf"^{knob}=.*\["):
        SyntheticConfig(**{knob: value})  # type: ignore[arg-type]


def test_too_few_rows_for_the_domains():
    with pytest.raises(ConfigError, match="at least 2000 rows"):
        SyntheticConfig(rows=1_999, domains=20)
