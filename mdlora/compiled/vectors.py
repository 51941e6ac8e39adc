"""Vectors of 16 float32 as values inside compiled kernels.

A loop that LLVM vectorises by itself uses half of an AVX-512 register and gives up where it cannot
rule out that two rows are one; kernels that say what is a vector need no luck. On a processor with
shorter vectors each becomes several. Arrays are in C order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, register_model

__all__ = [
    "LANES",
    "VECTOR",
    "ZEROS",
    "add",
    "add_product",
    "address",
    "fill",
    "inlined",
    "intrinsic",
    "load",
    "load_along",
    "load_some",
    "spread_number",
    "store",
    "store_along",
    "store_some",
    "store_totals",
    "vector",
    "zeros",
]

F = TypeVar("F", bound=Callable[..., Any])

LANES = 16
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)
_ALIGN = ir.Constant(_INT, 4)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector")


vector = _Vector()
_vectors = (vector,) * 4


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Vector) -> None:
        super().__init__(manager, kind, VECTOR)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """What kernels call by the arguments after the first."""
    made: Callable[..., Any] = extending.intrinsic(function)
    return made


def inlined(function: F) -> F:
    """A part of a kernel, compiled into it; it makes no arrays, so it counts no references."""
    settings: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "forceinline": True,
        "_nrt": False,
    }
    made: F = numba.njit(**settings)(function)
    return made


def address(context: Any, builder: Any, kind: Any, array: Any, *place: Any) -> Any:
    """Where a place of an array lies."""
    made = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, made, place, wraparound=False)


def _vector_at(context: Any, builder: Any, kind: Any, array: Any, *place: Any) -> Any:
    """Where the vector that begins at a place of an array lies."""
    at = address(context, builder, kind, array, *place)
    return builder.bitcast(at, VECTOR.as_pointer())


def _first(builder: Any, num: Any) -> Any:
    """A mask of the first `num` lanes."""
    lanes = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lanes, spread_number(builder, builder.trunc(num, _INT)))


def spread_number(builder: Any, x: Any) -> Any:
    """A vector of one number."""
    empty = ir.Constant(ir.VectorType(x.type, LANES), ir.Undefined)
    first = builder.insert_element(empty, x, ir.Constant(_INT, 0))
    return builder.shuffle_vector(
        first, empty, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    )


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [x.type for x in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def zeros(typing: Any) -> Any:
    """A vector of zeros."""
    return vector(), lambda context, builder, signature, arguments: ZEROS


@intrinsic
def fill(typing: Any, x: Any) -> Any:
    """A vector of one number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread_number(builder, arguments[0])

    return vector(types.float32), generate


@intrinsic
def load(typing: Any, array: Any, i: Any, j: Any) -> Any:
    """The numbers of `array` from [i, j]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_vector_at(context, builder, array, *arguments), align=4)

    return vector(array, types.intp, types.intp), generate


@intrinsic
def load_along(typing: Any, array: Any, j: Any) -> Any:
    """The numbers of `array` (n,) from j."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_vector_at(context, builder, array, *arguments), align=4)

    return vector(array, types.intp), generate


@intrinsic
def load_some(typing: Any, array: Any, i: Any, j: Any, num: Any) -> Any:
    """The first `num` numbers of `array` from [i, j], and zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = _vector_at(context, builder, array, *arguments[:3])
        parts = [at, _ALIGN, _first(builder, arguments[3]), ZEROS]
        return _call(builder, f"llvm.masked.load.v{LANES}f32.p0", VECTOR, parts)

    return vector(array, types.intp, types.intp, types.intp), generate


@intrinsic
def store(typing: Any, x: Any, array: Any, i: Any, j: Any) -> Any:
    """Put a vector into `array` from [i, j]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[0], _vector_at(context, builder, array, *arguments[1:]), align=4)
        return context.get_dummy_value()

    return types.void(vector, array, types.intp, types.intp), generate


@intrinsic
def store_along(typing: Any, x: Any, array: Any, j: Any) -> Any:
    """Put a vector into `array` (n,) from j."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[0], _vector_at(context, builder, array, *arguments[1:]), align=4)
        return context.get_dummy_value()

    return types.void(vector, array, types.intp), generate


@intrinsic
def store_some(typing: Any, x: Any, array: Any, i: Any, j: Any, num: Any) -> Any:
    """Put the first `num` numbers of a vector into `array` from [i, j]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = _vector_at(context, builder, array, *arguments[1:4])
        parts = [arguments[0], at, _ALIGN, _first(builder, arguments[4])]
        _call(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), parts)
        return context.get_dummy_value()

    return types.void(vector, array, types.intp, types.intp, types.intp), generate


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """The sum a + b."""
    return vector(vector, vector), lambda context, builder, signature, given: builder.fadd(*given)


@intrinsic
def add_product(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a + b * c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return _call(builder, f"llvm.fma.v{LANES}f32", VECTOR, [b, c, a])

    return vector(vector, vector, vector), generate


@intrinsic
def store_totals(
    typing: Any, array: Any, i: Any, j: Any, a: Any, b: Any, c: Any, d: Any, num: Any
) -> Any:
    """Put the sums of four vectors' numbers into `array` from [i, j]; zeros from the num-th on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def add(x: Any, y: Any, left: list[int], right: list[int]) -> Any:
            parts = (
                builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INT, len(p)), p))
                for p in (left, right)
            )
            return builder.fadd(*parts)

        def pair(x: Any, y: Any, step: int) -> Any:
            """Lanes of x and y in turn, `step` at a time, each the sum of two."""
            low = [n + LANES * side for n in range(0, LANES, 2 * step) for side in (0, 1)]
            left = [n + m for n in low for m in range(step)]
            return add(x, y, left, [n + step for n in left])

        a, b, c, d, num = arguments[3:]
        both = pair(pair(a, b, 1), pair(c, d, 1), 2)
        for size in (8, 4):  # fold what is left of each of the four
            both = add(both, both, list(range(size)), list(range(size, 2 * size)))
        four = ir.VectorType(_FLOAT, 4)
        mask = _first(builder, num)
        places = ir.Constant(ir.VectorType(_INT, 4), [0, 1, 2, 3])
        wanted = builder.shuffle_vector(mask, mask, places)
        both = builder.select(wanted, both, ir.Constant(four, [0.0] * 4))
        at = address(context, builder, array, *arguments[:3])
        builder.store(both, builder.bitcast(at, four.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, *_vectors, types.intp), generate
