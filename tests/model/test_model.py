from __future__ import annotations

import pytest
import torch
from torch import nn

from mdlora.config import BackboneConfig, MLoRA, MoEMLoRA
from mdlora.data import Dataset
from mdlora.errors import AdapterError, ConfigError
from mdlora.model import CTRModel
from mdlora.types import Batch

NET = BackboneConfig(name="deepfm", embed_dim=4, hidden=(8, 6))


def batch_of(data: Dataset, rows: int = 50) -> Batch:
    train = data.split("train")
    return Batch(train.categories[:rows], train.domain[:rows])


def test_logits_are_those_of_embeddings_then_backbone(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, NET).eval()
    batch = batch_of(tiny_data)
    assert torch.equal(model(batch), model.backbone(model.embeddings(batch)))
    assert model(batch).shape == (50,)


def test_adapters_leave_the_backbones_initial_weights_and_scores_alone(tiny_data: Dataset):
    batch = batch_of(tiny_data)
    base = CTRModel(tiny_data.schema, NET, seed=3).double().eval()
    for adapter in (MLoRA(rank=2), MoEMLoRA(experts_per_domain=3), MoEMLoRA(gate="input")):
        model = CTRModel(tiny_data.schema, NET, adapter, seed=3).double().eval()
        state = model.state()
        for name, tensor in base.state().items():
            assert torch.equal(state[name], tensor), name
        assert torch.equal(model(batch), base(batch))


def test_the_seed_decides_initial_weights(tiny_data: Dataset):
    def table(seed: int) -> torch.Tensor:
        return CTRModel(tiny_data.schema, NET, seed=seed).embeddings.table

    torch.manual_seed(1)
    first = table(1)
    torch.manual_seed(2)
    assert torch.equal(first, table(1))
    assert not torch.equal(first, table(2))


def test_building_leaves_torchs_generator_alone(tiny_data: Dataset):
    before = torch.get_rng_state()
    CTRModel(tiny_data.schema, NET, MoEMLoRA(experts_per_domain=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_of_each_part_by_hand(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, NET, MoEMLoRA(rank=2, experts_per_domain=2))
    fields, ids = len(tiny_data.schema.fields), sum(tiny_data.schema.num_ids)
    inputs = 4 * fields
    first, second = inputs * 8 + 8, 8 * 6 + 6
    assert model.num_parameters("embeddings") == ids * (4 + 1)  # the linear weight beside
    assert model.num_parameters("backbone") == first + second + (6 + 1)
    assert model.num_parameters("targets") == first + second
    # 3 domains * 2 experts: A, B and c of rank 2 on both layers.
    assert model.num_parameters("experts") == 6 * (2 * inputs + 2 * 8 + 8 + 2 * 8 + 2 * 6 + 6)
    # Each gate: an embedding of 4 domain ids, 4 wide, and a linear map to 6 with bias.
    assert model.num_parameters("gates") == 2 * (4 * 4 + 4 * 6 + 6)
    parts = ("embeddings", "backbone", "experts", "gates")
    assert model.num_parameters() == sum(model.num_parameters(p) for p in parts)
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())


def test_training_only_a_part(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, NET, MoEMLoRA())
    for name in ("embeddings", "backbone", "targets", "experts", "gates"):
        model.train_only(name)
        learns = {id(p) for p in model.parameters() if p.requires_grad}
        assert learns == {id(p) for p in model.group(name)}
        assert learns


def test_normalisation_layers_of_frozen_parts_stay_in_evaluation_mode(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, NET, MLoRA())
    model.backbone.tower.activations[0] = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU())
    norm = model.backbone.tower.activations[0][0]
    model.train_only("experts")
    model.training_mode(["experts"])
    assert model.training
    assert model.backbone.tower.activations[1].training  # dropout stays on
    assert not norm.training
    before = norm.running_mean.clone()
    model(batch_of(tiny_data))
    assert torch.equal(norm.running_mean, before)
    model.train_only("backbone")
    model.training_mode(["backbone"])
    model(batch_of(tiny_data))
    assert not torch.equal(norm.running_mean, before)


def test_state_holds_each_tensor_once_and_loads_back(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, NET, MoEMLoRA())
    state = model.state()
    assert len({t.data_ptr() for t in state.values() if t.numel()}) == len(state)
    assert not any("adapted.module" in name for name in state)
    other = CTRModel(tiny_data.schema, NET, MoEMLoRA(), seed=9)
    other.load_tensors(state)
    assert all(torch.equal(other.state()[name], t) for name, t in state.items())
    assert other.state()["embeddings.table"].data_ptr() != state["embeddings.table"].data_ptr()


def test_what_does_not_fit_is_refused(tiny_data: Dataset):
    with pytest.raises(AdapterError, match="num_domains=7 but the schema has 3"):
        CTRModel(tiny_data.schema, NET, MLoRA(num_domains=7))
    CTRModel(tiny_data.schema, NET, MLoRA(num_domains=3))
    with pytest.raises(ConfigError, match="Did you mean 'wdl'"):
        CTRModel(tiny_data.schema, "wld")
    with pytest.raises(AdapterError, match="rank=9 does not fit"):
        CTRModel(tiny_data.schema, NET, MLoRA(rank=9))


def test_an_unknown_domain_scores_as_the_backbone(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, NET, MLoRA()).double().eval()
    for p in model.group("experts"):
        nn.init.normal_(p)
    batch = batch_of(tiny_data)
    zero = batch._replace(domain=torch.zeros_like(batch.domain))
    plain = model.backbone
    model.adapted.route_mode = "none"
    want = plain(model.embeddings(zero))
    model.adapted.route_mode = "own"
    torch.testing.assert_close(model(zero), want, rtol=1e-13, atol=1e-13)
    assert not torch.allclose(model(batch), want)
