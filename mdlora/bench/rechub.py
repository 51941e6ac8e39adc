"""The same epoch in torch-rechub, by its own trainer and loader."""

from __future__ import annotations

from typing import Any

from torch import nn

from mdlora.bench.foreign import silenced
from mdlora.bench.network import Network
from mdlora.bench.timing import Epoch
from mdlora.errors import MissingExtraError
from mdlora.training.batches import PhaseRows

__all__ = ["load_rechub", "rechub_epoch"]


def load_rechub() -> Any:
    """The package torch-rechub.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with silenced():
            import torch_rechub
            import torch_rechub.models.ranking
    except ImportError as error:
        raise MissingExtraError(
            f"The comparison needs torch-rechub, which cannot be imported ({error}). "
            "Install it with: pip install mdlora[bench]"
        ) from error
    return torch_rechub


def rechub_epoch(network: Network, rows: PhaseRows, *, weight_decay: float) -> Epoch:
    """An epoch of its `CTRTrainer`, with our protocol's sizes and no validation.

    Its towers normalise batches, which ours and others' do not: that is taken out, and makes it
    faster. Its linear part is a dense layer on the embeddings, not a weight for each value.

    Args:
        network: what is trained.
        rows: the training rows.
        weight_decay: of its Adam; its default is 1e-5.
    """
    package = load_rechub()
    kinds, ranking = package.basic.features, package.models.ranking
    schema = network.schema
    with silenced():
        ids = [
            kinds.SparseFeature(name, vocab_size=size, embed_dim=network.embed_dim)
            for name, size in zip(schema.field_names, schema.num_ids, strict=True)
        ]
        numbers = [kinds.DenseFeature(name) for name in network.numbers]
        tower = {"dims": list(network.config.hidden), "dropout": network.config.dropout}
        made = ranking.DeepFM if network.backbone == "deepfm" else ranking.WideDeep
        if network.backbone == "deepfm":
            model = made(deep_features=[*ids, *numbers], fm_features=ids, mlp_params=tower)
        else:
            model = made(wide_features=ids, deep_features=[*ids, *numbers], mlp_params=tower)
        model.mlp.mlp = nn.Sequential(
            *(layer for layer in model.mlp.mlp if not isinstance(layer, nn.BatchNorm1d))
        )
        trainer = package.trainers.CTRTrainer(
            model, optimizer_params={"lr": 1e-3, "weight_decay": weight_decay}, n_epoch=1
        )
        columns = {name: rows.categories[:, i].numpy() for i, name in enumerate(schema.field_names)}
        if rows.dense is not None:
            columns |= {name: rows.dense[:, i].numpy() for i, name in enumerate(network.numbers)}
        data = package.utils.data.DataGenerator(columns, rows.label.numpy())
        # It shuffles an empty validation set too, if it has none of its own.
        few = {name: column[:1] for name, column in columns.items()}
        one = rows.label[:1].numpy()
        loader, _, _ = data.generate_dataloader(few, one, few, one, batch_size=network.batch_size)

    def run() -> None:
        with silenced():
            trainer.train_one_epoch(loader)

    return Epoch(run, len(rows), network.batch_size)
