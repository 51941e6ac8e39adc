"""Batch -> Embedded."""

from mdlora.embeddings.table import Embeddings

__all__ = ["Embeddings"]
