from __future__ import annotations

import json

import pytest
from scipy import stats

from mdlora.errors import DataError
from mdlora.evaluation import verdicts


def cells(method, waucs, backbone="mlp"):
    return [
        {"method": method, "backbone": backbone, "seed": seed, "wauc": wauc}
        for seed, wauc in enumerate(waucs)
    ]


BASE = [0.700, 0.702, 0.698, 0.701, 0.699]


def shifted(*by):
    return [a + b for a, b in zip(BASE, by, strict=True)]


def test_verdicts_with_holm_over_the_whole_comparison():
    ups = [0.019, 0.021, 0.020, 0.018, 0.022]
    downs = [-0.003, -0.004, -0.005, -0.004, -0.004]
    noise = [0.004, -0.004, 0.003, -0.002, 0.001]
    found = verdicts(
        [
            *cells("base", BASE),
            *cells("up", shifted(*ups)),
            *cells("down", shifted(*downs)),
            *cells("noise", shifted(*noise)),
        ]
    )
    assert [v["method"] for v in found] == ["up", "down", "noise"]
    assert [v["verdict"] for v in found] == ["better", "worse", "no difference"]
    raw = [stats.ttest_1samp(d, 0).pvalue for d in (ups, downs, noise)]
    assert [v["p_uncorrected"] for v in found] == pytest.approx(raw, rel=1e-6)
    # Smallest to largest: up, down, noise -> times 3, 2, 1.
    assert [v["p"] for v in found] == pytest.approx([3 * raw[0], 2 * raw[1], raw[2]], rel=1e-6)
    assert found[0]["difference"] == pytest.approx(0.02)
    # sd of ups is 0.0015811, t(0.975, 4) = 2.776445, half = 2.776445 * 0.0015811 / sqrt(5).
    assert found[0]["interval"] == pytest.approx([0.02 - 0.0019632, 0.02 + 0.0019632], abs=1e-6)
    assert found[0]["seeds"] == 5
    assert "note" not in found[0]
    json.dumps(found, allow_nan=False)


def test_a_sure_but_tiny_difference_is_no_difference():
    tiny = verdicts([*cells("base", BASE), *cells("m", shifted(*[0.0009, 0.00091] * 2, 0.0009))])
    assert tiny[0]["p"] < 1e-6
    assert tiny[0]["verdict"] == "no difference"
    edge = verdicts([*cells("base", BASE), *cells("m", shifted(*[0.001] * 5))])
    assert edge[0]["verdict"] == "better"


def test_holm_can_take_a_verdict_away():
    # Alone p = 0.03 or so is better; beside an equal second backbone it is 0.06.
    ups = [0.001, 0.006, 0.004, 0.008, 0.002]
    p = stats.ttest_1samp(ups, 0).pvalue
    assert 0.025 < p < 0.05
    alone = [*cells("base", BASE), *cells("m", shifted(*ups))]
    assert verdicts(alone)[0]["verdict"] == "better"
    other = [*cells("base", BASE, "dcn"), *cells("m", shifted(*ups), "dcn")]
    both = verdicts([*alone, *other])
    assert [(v["backbone"], v["verdict"]) for v in both] == [
        ("mlp", "no difference"),
        ("dcn", "no difference"),
    ]


def test_few_seeds_carry_a_note():
    one = verdicts([*cells("base", BASE), *cells("m", [0.9])])[0]
    assert (one["p"], one["verdict"], one["seeds"]) == (None, "no difference", 1)
    assert one["difference"] == pytest.approx(0.2)
    assert one["interval"] is None
    assert "One seed proves nothing" in one["note"]
    three = verdicts([*cells("base", BASE), *cells("m", [0.8, 0.81, 0.79])])[0]
    assert three["verdict"] == "better"
    assert "Only 3 seeds" in three["note"]


def test_missing_base_and_missing_wauc():
    lone = verdicts(cells("m", BASE))[0]
    assert (lone["difference"], lone["p"], lone["seeds"]) == (None, None, 0)
    assert lone["note"] == "No seed in common with base: there is nothing to compare."
    other = verdicts(cells("m", BASE), baseline="base-wide")[0]
    assert other["note"] == "No seed in common with base-wide: there is nothing to compare."
    assert verdicts([*cells("base", BASE), *cells("m", [None, *BASE[1:]])])[0]["seeds"] == 4


def test_two_cells_for_one_seed_are_refused():
    with pytest.raises(DataError, match="method 'm', seed 0"):
        verdicts([*cells("m", BASE), *cells("m", [0.5])])
