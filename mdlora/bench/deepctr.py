"""The same epoch in DeepCTR-Torch, by its own `compile` and `fit`."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from mdlora.config import BackboneConfig, TrainingConfig
from mdlora.embeddings import embed_dim_of
from mdlora.errors import MissingExtraError
from mdlora.schema import Schema
from mdlora.training.batches import PhaseRows

__all__ = ["deepctr_epoch", "load_deepctr"]

_CLASSES = {"deepfm": "DeepFM", "wdl": "WDL"}


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep its messages, warnings and seeds to itself."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        yield


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
        with _silenced(), _without_requests():
            import deepctr_torch.inputs
            import deepctr_torch.models
    except ImportError as error:
        raise MissingExtraError(
            f"The comparison needs DeepCTR-Torch, which cannot be imported ({error}). "
            "Install it with: pip install mdlora[bench]"
        ) from error
    return deepctr_torch


def deepctr_epoch(backbone: str, schema: Schema, rows: PhaseRows, *, l2: float) -> float:
    """CPU seconds of one epoch of `fit`, with our protocol's sizes and no validation.

    Args:
        backbone: "deepfm" or "wdl".
        schema: of the rows.
        rows: the training rows.
        l2: its penalty on whole embedding and linear tables; its default is 1e-5.
    """
    package = load_deepctr()
    size, training = BackboneConfig(name=backbone), TrainingConfig()
    width = embed_dim_of(schema, size.embed_dim)
    with _silenced():
        columns = [
            package.inputs.SparseFeat(name, vocabulary_size=ids, embedding_dim=width)
            for name, ids in zip(schema.field_names, schema.num_ids, strict=True)
        ]
        model = getattr(package.models, _CLASSES[backbone])(
            columns,
            columns,
            dnn_hidden_units=size.hidden,
            dnn_dropout=size.dropout,
            l2_reg_embedding=l2,
            l2_reg_linear=l2,
        )
        model.compile("adam", "binary_crossentropy", metrics=[])
        ids = rows.categories.numpy()
        inputs = {name: ids[:, i] for i, name in enumerate(schema.field_names)}
        label = rows.label.numpy()
        started = time.process_time()
        model.fit(inputs, label, batch_size=training.batch_size, epochs=1, verbose=0, shuffle=True)
        return time.process_time() - started
