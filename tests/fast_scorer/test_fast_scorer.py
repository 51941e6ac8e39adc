"""Scores by compiled kernels beside the model's own pass, in float32 and in float64."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.compiled import has_numba, plain_only
from mdlora.config import BackboneConfig, DomainAdapters, FullFinetuning, MLoRA, MoEMLoRA
from mdlora.data import Rows
from mdlora.errors import AdapterError, DataError
from mdlora.model import CTRModel
from mdlora.schema import Categorical, Domain, Label, Schema
from mdlora.types import Batch

pytestmark = pytest.mark.skipif(not has_numba(), reason="needs numba: pip install mdlora[fast]")

DOMAINS = 6
SIZES = (1, 5, 8, 9, 700)  # one kernel up to 8 rows; tiles of 512 rows


def make_model(backbone: str, adapter: DomainAdapters | None) -> CTRModel:
    schema = Schema(
        (
            Categorical("user", values=tuple(range(40))),
            Categorical("item", values=tuple(range(30))),
            Domain("market", values=tuple(range(DOMAINS))),
            Label("click"),
        )
    )
    config = BackboneConfig(name=backbone, embed_dim=5, hidden=(37, 16, 10), dropout=0.5)
    model = CTRModel(schema, config, adapter)
    for parameter in model.parameters():  # fresh adapters, gates and biases would add nothing
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def make_batch(rows: int) -> Batch:
    ids = torch.stack([torch.randint(0, n, (rows,)) for n in (41, 31, DOMAINS + 1)], 1)
    ids[0] = 0  # out of vocabulary in every column, the domain's among them
    return Batch(ids, ids[:, 2].contiguous())


def check(model: CTRModel, engine: str, expert: Tensor | None = None) -> None:
    scorer = model.fast_scorer()
    assert (scorer.engine, scorer.reason is None) == (engine, engine == "compiled"), scorer.reason
    exact = copy.deepcopy(model).double()
    for rows in SIZES:
        batch = make_batch(rows)
        chosen = None if expert is None else expert[:rows]
        with torch.no_grad():
            expected = exact(batch, chosen)
        found = scorer(batch, chosen)
        scale = float(expected.abs().max().clamp(min=1))
        assert found.dtype == torch.float32
        assert float((found - expected).abs().max()) <= 1e-6 * scale


ROUTES: dict[str, DomainAdapters | None] = {
    "no adapters": None,
    "mlora, ranks 9, 4, 2": MLoRA(temperature=4),
    "mlora, rank 1, no bias": MLoRA(rank=1, bias=False),
    "mlora, head too": MLoRA(rank=1, targets="tower.linears.1,head"),
    "moe, domain gate": MoEMLoRA(rank=2),
    "moe, shared gate": MoEMLoRA(rank=2, gate_shared=True),
    "moe, gate for unknown": MoEMLoRA(rank=2, unknown_domain="gate"),
    "moe, two of all": MoEMLoRA(rank=2, top_k=2),
    "moe, two a domain": MoEMLoRA(rank=2, experts_per_domain=2),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("backbone", ["mlp", "wdl", "deepfm"])
def test_kernels_give_the_models_logits(backbone, route):
    check(make_model(backbone, ROUTES[route]), "compiled")


@pytest.mark.parametrize("mode", ["none", "own"])
def test_a_gated_model_on_other_routes(mode):
    model = make_model("deepfm", MoEMLoRA(rank=2, experts_per_domain=2))
    assert model.adapted is not None
    model.adapted.route_mode = mode
    check(model, "compiled")


@pytest.mark.parametrize(
    "adapter", [MLoRA(rank=2), MoEMLoRA(rank=2, experts_per_domain=2)], ids=["mlora", "moe"]
)
def test_experts_in_place_of_domains(adapter):
    model = make_model("wdl", adapter)
    assert model.adapted is not None
    model.adapted.route_mode = "own"
    expert = torch.randint(-1, model.adapted.num_experts, (max(SIZES),))
    check(model, "compiled", expert)
    model.adapted.route_mode = "none"
    check(model, "compiled", expert)


@pytest.mark.parametrize("backbone", ["nfm", "xdeepfm", "dcnv2", "pnn", "fibinet"])
def test_other_towers_keep_their_own_parts(backbone):
    check(make_model(backbone, MLoRA(rank=2)), "tower")


def test_every_kind_of_column(every_kind, tiny_config):
    config = BackboneConfig(name="deepfm", hidden=(16, 8))
    model = CTRModel(every_kind.schema, config, MLoRA(rank=2), vectors=every_kind.vectors)
    for parameter in model.group("experts"):
        nn.init.normal_(parameter)
    rows = every_kind.split("test")
    scorer = model.fast_scorer()
    assert scorer.engine == "tower"
    assert "lists" in str(scorer.reason)
    batch = rows.batch(0, len(rows))
    with torch.no_grad():
        expected = model(batch)
    torch.testing.assert_close(scorer(batch), expected, rtol=1e-5, atol=1e-6)


def _hooked(model: CTRModel) -> CTRModel:
    model.backbone.register_forward_hook(lambda *_: None)
    return model


def _in_float64(model: CTRModel) -> CTRModel:
    return model.double()


@pytest.mark.parametrize(
    ("backbone", "adapter", "change", "reason"),
    [
        ("autoint", MLoRA(rank=2), None, "not a tower"),
        ("deepfm", FullFinetuning(), None, "whole matrices"),
        ("deepfm", MoEMLoRA(rank=2, gate="input"), None, "gate sees the input"),
        ("deepfm", MLoRA(rank=2), _in_float64, "float32"),
        ("deepfm", MLoRA(rank=2), _hooked, "hooks on DeepFM"),
        ("dcnv2", MLoRA(rank=1, targets="*"), None, "outside the tower"),
    ],
)
def test_others_score_by_their_own_pass_and_say_why(backbone, adapter, change, reason):
    model = make_model(backbone, adapter)
    scorer = (model if change is None else change(model)).fast_scorer()
    assert scorer.engine == "plain"
    assert reason in str(scorer.reason)
    batch = make_batch(20)
    with torch.no_grad():
        assert torch.equal(scorer(batch), model(batch))


def test_without_kernels_the_model_scores_itself():
    model = make_model("deepfm", MLoRA(rank=2))
    with plain_only():
        scorer = model.fast_scorer()
    assert scorer.engine == "plain"
    assert "numba" in str(scorer.reason)


def test_not_a_number_stays_so():
    model = make_model("deepfm", MLoRA(rank=2))
    with torch.no_grad():
        model.backbone.get_parameter("tower.linears.0.bias")[3] = torch.nan
    for rows in (2, 20):
        assert model.fast_scorer()(make_batch(rows)).isnan().all()


def test_wrong_ids_are_refused_and_named():
    model = make_model("wdl", MLoRA(rank=2))
    scorer, batch = model.fast_scorer(), make_batch(600)
    batch.categories[590, 1] = 31
    with pytest.raises(DataError, match=r"Row 590 .*'item' has id 31, .* from 0 to 30"):
        scorer(batch)
    batch.categories[590, 1] = -1
    with pytest.raises(DataError, match="has id -1"):
        scorer(batch)
    with pytest.raises(DataError, match=r"shape \(600, 2\); expected \(600, 3\)"):
        scorer(batch._replace(categories=batch.categories[:, :2]))
    with pytest.raises(AdapterError, match="domain ids run from 7 to 7"):
        scorer(Batch(batch.categories[:1], torch.tensor([7])))
    with pytest.raises(AdapterError, match="expert ids run from"):
        scorer(Batch(batch.categories[:1], torch.tensor([1])), torch.tensor([6]))


def test_no_rows_give_no_scores():
    model = make_model("deepfm", MLoRA(rank=2))
    batch = Batch(torch.empty(0, 3, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    assert model.fast_scorer()(batch).shape == (0,)


def test_threads_score_at_once():
    scorer = make_model("deepfm", MLoRA(rank=2)).fast_scorer()
    batches = [make_batch(rows) for rows in (3, 600, 20, 900) * 6]
    alone = [scorer(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together: list[Any] = list(pool.map(scorer, batches))
    assert all(map(torch.equal, alone, together))


def test_score_rows_takes_the_fast_way():
    model = make_model("deepfm", MLoRA(rank=2)).train()
    batch = make_batch(1100)
    rows = Rows(batch.categories, batch.domain)
    found = model.score_rows(rows, batch_size=1000)
    with plain_only():
        plain = model.score_rows(rows, batch_size=1000)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-6 * float(plain.abs().max()))
    assert not torch.equal(found, plain)  # or kernels had no part in it
