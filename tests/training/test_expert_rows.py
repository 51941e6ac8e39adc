from __future__ import annotations

import pytest
import torch

from mdlora.config import MoEMLoRA
from mdlora.data import Dataset
from mdlora.errors import ConfigError
from mdlora.model import CTRModel
from mdlora.training.expert_rows import assign_rows, clusters_of, own_expert

D = 3


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(1)
    domain = torch.randint(0, D + 1, (500,), generator=make)
    return domain, torch.stack([torch.randint(0, 10, (500,), generator=make), domain], 1)


def test_expert_k_belongs_to_domain_k_mod_d():
    domain = torch.tensor([1, 2, 3, 0])
    assert own_expert(domain, 0, 3).tolist() == [0, 1, 2, -1]
    assert own_expert(domain, torch.tensor([2, 0, 1, 1]), 3).tolist() == [6, 1, 5, -1]


def assign(config: MoEMLoRA | None, seed: int = 1) -> tuple[torch.Tensor | None, torch.Tensor]:
    domain, categories = rows()
    return assign_rows(domain, categories, config, None, num_domains=D, seed=seed)


@pytest.mark.parametrize("config", [None, MoEMLoRA()])
def test_one_expert_a_domain_learns_from_all_its_rows(config: MoEMLoRA | None):
    places, expert = assign(config)
    assert places is None
    assert torch.equal(expert, rows()[0] - 1)


def test_a_random_partition_is_even_and_seeded():
    domain, _ = rows()
    places, expert = assign(MoEMLoRA(experts_per_domain=4))
    assert places is None
    for d in range(1, D + 1):
        counts = torch.bincount(expert[domain == d], minlength=4 * D)
        own = counts[d - 1 :: D]
        assert counts.sum() == own.sum() == (domain == d).sum()
        assert own.max() - own.min() <= 1
    assert expert[domain == 0].eq(-1).all()
    assert torch.equal(expert, assign(MoEMLoRA(experts_per_domain=4))[1])
    assert not torch.equal(expert, assign(MoEMLoRA(experts_per_domain=4), seed=2)[1])


def test_a_bootstrap_draws_each_experts_rows_from_its_domain_with_replacement():
    domain, _ = rows()
    places, expert = assign(MoEMLoRA(experts_per_domain=3, expert_rows="bootstrap"))
    assert places is not None
    assert torch.equal(torch.where(expert < 0, 0, expert % D + 1), domain[places])
    sizes = torch.bincount(domain, minlength=D + 1)
    for k in range(3 * D):
        mine = places[expert == k]
        size = int(sizes[k % D + 1])
        assert len(mine) == size
        # Of n draws from n, a share 1 - 1/e = 0.632 is distinct, give or take 0.31 / sqrt(n).
        assert abs(len(mine.unique()) / size - 0.632) < 5 * 0.31 / size**0.5 + 1 / size
    assert not torch.equal(places[expert == 0].sort().values, places[expert == D].sort().values)


def test_clusters_follow_the_trained_embeddings(tiny_data: Dataset):
    config = MoEMLoRA(experts_per_domain=2, expert_rows="clusters:item_id")
    model = CTRModel(tiny_data.schema, "mlp", config)
    field = tiny_data.schema.field_names.index("item_id")
    place = model.embeddings.column_rows(field)
    far = torch.arange(place.stop - place.start) % 3 == 0
    with torch.no_grad():  # two heaps far apart
        model.embeddings.table[place] = torch.where(far, 50.0, -50.0).unsqueeze(1)
        model.embeddings.table[place] += torch.randn(len(far), 1)
    found = clusters_of(model, config, seed=1)
    assert found is not None
    assert found[0] == field
    assert torch.equal(found[1] == found[1][0], far == far[0])
    train = tiny_data.split("train")
    places, expert = assign_rows(
        train.domain, train.categories, config, found, num_domains=3, seed=1
    )
    assert places is None
    want = train.domain - 1 + 3 * found[1][train.categories[:, field]]
    assert torch.equal(expert, want)


def test_clusters_of_a_column_that_is_not_there(tiny_data: Dataset):
    config = MoEMLoRA(experts_per_domain=2, expert_rows="clusters:colour")
    model = CTRModel(tiny_data.schema, "mlp", config)
    with pytest.raises(ConfigError, match=r"names no field; choose one of user_id, item_id"):
        clusters_of(model, config, seed=1)
    few = MoEMLoRA(experts_per_domain=9, expert_rows="clusters:domain")
    with pytest.raises(ConfigError, match="domain has 4 ids, too few for 9 clusters"):
        clusters_of(model, few, seed=1)
    assert clusters_of(model, MoEMLoRA(expert_rows="clusters:user_id"), seed=1) is None  # m = 1
