"""The figures of `mdlora models`, against counts by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.backbones import BACKBONES, Inputs, TowerBackbone, tower_input
from mdlora.config import METHODS, BackboneConfig, MoEMLoRA
from mdlora.data import Dataset
from mdlora.errors import ConfigError
from mdlora.reports import (
    ModelFacts,
    adapters_table,
    every_model,
    layers_table,
    methods_table,
    model_facts,
    models_table,
    models_to_json,
    schema_sizes,
    settings_table,
)
from mdlora.types import Embedded

# The tiny log has user, item, an attribute of each, hour and domain: 6 fields, here 4 wide.
WIDE, D = 24, 3
SMALL = BackboneConfig(embed_dim=4, hidden=(8, 6))


def facts_of(
    data: Dataset, name: str, config: BackboneConfig = SMALL, **adapter: Any
) -> ModelFacts:
    settings = MoEMLoRA(**{"temperature": 4, **adapter})
    return model_facts(data.schema, name, backbone=config, adapter=settings)


def test_wide_and_deep_by_hand(tiny_data: Dataset):
    facts = facts_of(tiny_data, "wdl")
    assert facts.parameters == WIDE * 8 + 8 + 8 * 6 + 6 + 6 + 1
    assert facts.flops == 2 * (WIDE * 8 + 8 * 6 + 6)
    assert (facts.kind, facts.paper) == ("backbone", "Cheng et al. 2016, arXiv:1606.07792")
    assert (facts.targets, facts.other_targets) == ("tower", ("head",))
    layers = [(x.name, x.inputs, x.outputs, x.default, x.rank, x.parameters) for x in facts.layers]
    of_first, of_second = 2 * (WIDE + 8) + 8, 1 * (8 + 6) + 6  # ranks 8 // 4 and 6 // 4, and biases
    assert layers == [
        ("tower.linears.0", WIDE, 8, True, 2, of_first),
        ("tower.linears.1", 8, 6, True, 1, of_second),
        ("head", 6, 1, False, 1, 6 + 1 + 1),
    ]
    of_domain = of_first + of_second
    gate = (D + 1) * 4 + 4 * D + D  # embeddings 4 wide, and a linear map to the adapters
    full = WIDE * 8 + 8 + 8 * 6 + 6
    sizes = {n: (s.of_domain, s.gates, s.total) for n, s in facts.adapters.items()}
    assert sizes == {
        "mlora": (of_domain, 0, D * of_domain),
        "moe-mlora": (of_domain, 2 * gate, D * of_domain + 2 * gate),
        "full-finetuned": (full, 0, D * full),
    }


def test_a_multi_domain_method_by_hand(tiny_data: Dataset):
    config = BackboneConfig(embed_dim=4, hidden=(8, 16))
    facts = facts_of(tiny_data, "shared-bottom", config)
    assert facts.parameters == WIDE * 8 + 8 + D * (8 * 16 + 16) + D * (16 + 1)
    # Rows meet their own domain's tower; of heads, so narrow, all three are computed.
    assert facts.flops == 2 * (WIDE * 8 + 8 * 16 + D * 16)
    assert facts.own == 8 * 16 + 16 + 16 + 1
    assert (facts.kind, facts.targets, facts.other_targets) == ("multi-domain", "bottom", ())
    assert facts.adapters["mlora"].of_domain == 2 * (WIDE + 8) + 8


def test_what_each_domain_has_of_its_own_by_hand(tiny_data: Dataset):
    star = WIDE * 8 + 8 + 8 * 6 + 6 + 6 + 1
    norm = 2 * WIDE  # a scale and a shift
    experts = 2 * (WIDE * 8 + 8 + 8 * 6 + 6 + 6 + 1)
    own = {
        "star": star + norm, "star-shared": norm, "sarnet": norm + experts,
        "mmoe": WIDE * 8 + (8 * 6 + 6) + (6 + 1), "adaptdhm": 0, "wdl": 0, "m2m": 0,
    }  # fmt: skip
    facts = {name: facts_of(tiny_data, name) for name in own}
    assert {name: each.own for name, each in facts.items()} == own
    table = models_table(list(facts.values()), "multi-domain", D)
    shown = {row[0]: row[table.columns.index("own of a domain")] for row in table.rows}
    assert shown == {name: f"{own[name]:,}" for name in own if name != "wdl"}
    # 86 values of ids, each with 4 numbers; a linear part has one more each. Three of all.
    assert facts["star"].separate == 3 * (facts["star"].parameters + 86 * 4)
    assert facts["wdl"].separate == 3 * (facts["wdl"].parameters + 86 * 5)


@pytest.mark.parametrize("name", ["mmoe", "star-shared", "din"])
def test_the_work_of_a_row_by_hand(name: str, every_kind: Dataset):
    options = {"history": "tags", "target": "item_vectors"} if name == "din" else {}
    config = BackboneConfig(name=name, embed_dim=4, hidden=(16, 64), options=options)
    facts = facts_of(every_kind, name, config)
    assert facts.problem is None
    assert facts.flops is not None
    fields, numbers = 9, 1
    width = fields * 4 + numbers
    tower = 2 * (width * 16 + 16 * 64)
    if name == "mmoe":  # eight experts of one layer, and for three domains eight gates
        first = 2 * (width * 8 * 16 + width * D * 8) + 2 * 8 * 16
        assert facts.flops == first + 2 * (16 * 64 + D * 64)
    elif name == "star-shared":
        assert facts.flops == tower + 2 * 64 + 2 * (width * 32 + 32)
    else:  # lists of at most 3 tags: 4 vectors of width 4 enter 36 units, and one output
        assert facts.flops == tower + 2 * 64 + 3 * 2 * (16 * 36 + 36)
        by_name = {layer.name: layer for layer in facts.layers}
        assert by_name["attention.head"].reached  # it sees items, whose rows are known
        assert facts.other_targets == ("head", "attention")
        text = layers_table(facts).to_markdown()
        assert "| attention.head | if named | 36 | 1 | 1 | 38 |" in text


class OfFields(TowerBackbone):
    """A layer sees each field as a row of its own."""

    def __init__(self, inputs: Inputs, *, hidden: Sequence[int], dropout: float) -> None:
        super().__init__(inputs, hidden=hidden, dropout=dropout)
        self.each = nn.Linear(inputs.embed_dim, 1)

    def forward(self, x: Embedded) -> Tensor:
        of_fields: Tensor = self.each(x.fields.flatten(0, 1))
        return self.deep(tower_input(x)) + of_fields.view(x.fields.shape[:2]).sum(1)


def test_a_layer_on_other_rows_cannot_have_adapters(
    tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(BACKBONES, "of-fields", OfFields)
    facts = facts_of(tiny_data, "of-fields")
    assert facts.other_targets == ("head",)
    assert "| each | cannot | 4 | 1 | – | – |" in layers_table(facts).to_markdown()
    named = facts_of(tiny_data, "of-fields", targets="each")
    assert named.no_adapters == "each see other rows than those of the batch."


def test_every_model_and_method_is_in_a_table(tiny_data: Dataset):
    facts = every_model(tiny_data.schema, backbone=SMALL)
    assert [each.name for each in facts] == list(BACKBONES)
    tables = {kind: models_table(facts, kind, D) for kind in ("backbone", "multi-domain")}
    for name, kind in BACKBONES.items():
        (row,) = (r for t in tables.values() for r in t.rows if r[0] == name)
        assert row in tables["multi-domain" if kind.is_multi_domain else "backbone"].rows
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert [row[0] for row in methods_table().rows] == list(METHODS)
    assert all(row[1] for row in methods_table().rows)
    wdl = next(row for row in tables["backbone"].rows if row[0] == "wdl")
    reach = ("wdl", "Cheng et al. 2016, arXiv:1606.07792", "2 layers: tower", "head")
    assert wdl[:4] == reach
    # Temperature 32: ranks 1 and 1. 40 + 20 of 261 parameters are 23.0 percent, 180 are 69.0.
    # Separate: three networks, each with 86 values of ids that have 4 numbers, and 1 more.
    assert wdl[4:] == ("261", "60", "23.0", "180", "69.0", f"{3 * (261 + 86 * 5):,}", "492")
    plain = json.loads(json.dumps(models_to_json(facts)))
    assert [each["name"] for each in plain] == list(BACKBONES)


def test_what_a_schema_cannot_serve_is_listed_with_the_reason(tiny_data: Dataset):
    facts = facts_of(tiny_data, "din")
    assert facts.problem is not None
    assert "the schema has no list column" in facts.problem
    assert facts.parameters is facts.flops is None
    assert settings_table(facts).rows
    (row,) = models_table([facts], "backbone", D).rows
    assert row[2] == f"not with this schema: {facts.problem}"
    assert set(row[3:]) == {"–"}


@pytest.mark.parametrize("name", ["adaptdhm", "star"])
def test_where_adapters_reach_nothing_the_reason_stands(name: str, tiny_data: Dataset):
    facts = facts_of(tiny_data, name)
    assert facts.problem is None
    assert facts.no_adapters == BACKBONES[name].adapter_hint
    assert not facts.adapters
    assert models_table([facts], "multi-domain", D).rows[0][2] == f"none: {facts.no_adapters}"
    assert adapters_table(facts).rows == ()


def test_settings_of_adapters_count(tiny_data: Dataset):
    head = facts_of(tiny_data, "wdl", targets="head", bias=False)
    assert [layer.name for layer in head.layers if layer.default] == ["head"]
    assert head.other_targets == ("tower",)
    assert head.adapters["mlora"].of_domain == 6 + 1
    four = facts_of(tiny_data, "wdl", rank=4)
    assert [layer.rank for layer in four.layers] == [4, 4, None]  # the head has one output
    assert four.adapters["mlora"].of_domain == 4 * (WIDE + 8) + 8 + 4 * (8 + 6) + 6
    nine = facts_of(tiny_data, "wdl", rank=9)
    assert nine.no_adapters is not None
    assert "adapter.rank=9 does not fit" in nine.no_adapters
    two = facts_of(tiny_data, "wdl", experts_per_domain=2)
    assert two.adapters["moe-mlora"].of_domain == 2 * two.adapters["mlora"].of_domain
    missing = facts_of(tiny_data, "wdl", targets="cross")
    assert missing.no_adapters is not None
    assert "targets='cross' matches no Linear layer" in missing.no_adapters


def test_hidden_layers_count_where_there_are_any(tiny_data: Dataset):
    plain = facts_of(tiny_data, "fwfm")
    assert plain.idle == ("hidden", "dropout")
    (hidden,) = (row for row in settings_table(plain).rows if row[0] == "backbone.hidden")
    assert hidden[3].endswith("(no effect here)")
    deep = facts_of(tiny_data, "fwfm", BackboneConfig(embed_dim=4, options={"deep": True}))
    assert deep.parameters > plain.parameters
    with pytest.raises(ConfigError, match="no option 'depth'"):
        facts_of(tiny_data, "wdl", BackboneConfig(options={"depth": 2}))


def test_very_large_networks_are_not_run(tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mdlora.reports.facts.COUNTED", 260)
    assert facts_of(tiny_data, "mlp").flops is None  # 261 parameters
    assert facts_of(tiny_data, "mlp").adapters
    monkeypatch.setattr("mdlora.reports.facts.COUNTED", 261)
    assert facts_of(tiny_data, "mlp").flops == 492


def test_looking_draws_no_random_numbers(tiny_data: Dataset):
    before = torch.get_rng_state()
    facts_of(tiny_data, "hamur")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_all_models_have_in_common(tiny_data: Dataset, every_kind: Dataset):
    # 26 users, 21 items, 5 values of each attribute, 25 hours, 4 domains, the unknown among them.
    ids = 26 + 21 + 5 + 5 + 25 + 4
    assert schema_sizes(tiny_data.schema, 4) == {
        "fields": 6, "embed_dim": 4, "numbers": 0, "lists": 0, "domains": 3,
        "embeddings": 4 * ids, "linear": ids,
    }  # fmt: skip
    sizes = schema_sizes(every_kind.schema, None)
    assert (sizes["fields"], sizes["numbers"], sizes["lists"]) == (9, 1, 2)
