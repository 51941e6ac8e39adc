"""The same epoch in DeepCTR-Torch, by its own `compile` and `fit`."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mdlora.bench.foreign import silenced
from mdlora.bench.network import Network
from mdlora.bench.timing import Epoch
from mdlora.errors import MissingExtraError
from mdlora.training.batches import PhaseRows

__all__ = ["deepctr_epoch", "deepctr_model", "load_deepctr"]

_CLASSES = {"deepfm": "DeepFM", "wdl": "WDL"}


@contextlib.contextmanager
def _without_requests() -> Iterator[None]:
    """An empty module in place of `requests`, till every thread started meanwhile has ended.

    DeepCTR-Torch 0.3.0 imports requests, without depending on it, for one thing: a thread that
    asks the package index for a newer version. A benchmark should not call home.
    """
    threads, kept = set(threading.enumerate()), sys.modules.get("requests")
    sys.modules["requests"] = ModuleType("requests")
    try:
        yield
        for thread in set(threading.enumerate()) - threads:
            thread.join()
    finally:
        del sys.modules["requests"]
        if kept is not None:
            sys.modules["requests"] = kept


def load_deepctr() -> Any:
    """The package DeepCTR-Torch.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with silenced(), _without_requests():
            import deepctr_torch.inputs
            import deepctr_torch.models
    except ImportError as error:
        raise MissingExtraError(
            f"The comparison needs DeepCTR-Torch, which cannot be imported ({error}). "
            "Install it with: pip install mdlora[bench]"
        ) from error
    return deepctr_torch


def deepctr_model(network: Network, *, l2: float) -> Any:
    """Its model, compiled; see `deepctr_epoch`."""
    package = load_deepctr()
    schema = network.schema
    with silenced():
        columns = [
            package.inputs.SparseFeat(name, vocabulary_size=ids, embedding_dim=network.embed_dim)
            for name, ids in zip(schema.field_names, schema.num_ids, strict=True)
        ]
        columns += [package.inputs.DenseFeat(name, 1) for name in network.numbers]
        model = getattr(package.models, _CLASSES[network.backbone])(
            columns,
            columns,
            dnn_hidden_units=network.config.hidden,
            dnn_dropout=network.config.dropout,
            l2_reg_embedding=l2,
            l2_reg_linear=l2,
        )
        model.compile("adam", "binary_crossentropy", metrics=[])
    return model


def deepctr_epoch(network: Network, rows: PhaseRows, *, l2: float) -> Epoch:
    """An epoch of its `fit`, with our protocol's sizes and no validation.

    Args:
        network: what is trained.
        rows: the training rows.
        l2: its penalty on whole embedding and linear tables; its default is 1e-5.
    """
    model, schema = deepctr_model(network, l2=l2), network.schema
    inputs = {name: rows.categories[:, i].numpy() for i, name in enumerate(schema.field_names)}
    if rows.dense is not None:
        inputs |= {name: rows.dense[:, i].numpy() for i, name in enumerate(network.numbers)}
    label = rows.label.numpy()

    def run() -> None:
        with silenced():
            model.fit(
                dict(inputs), label, batch_size=network.batch_size, epochs=1, verbose=0,
                shuffle=True,
            )  # fmt: skip

    return Epoch(run, len(rows), network.batch_size)
