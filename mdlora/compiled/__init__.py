"""Small kernels compiled by numba (the extra `fast`), each beside a plain PyTorch path."""

from mdlora.compiled.choice import can_compile, has_numba, is_array, plain_only

__all__ = ["can_compile", "has_numba", "is_array", "plain_only"]
