"""From a functional ATen overload to ExecuTorch's out variant, by PyTorch's own schemas, and its arguments in schema
order."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from etexport.program.model import Array, DType

_NOT_IN_OUT = frozenset({"dtype", "layout", "device", "pin_memory"})
"""Arguments of factories that their out variants lack: the out tensor says it."""


@functools.cache
def out_variant(overload: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """The overload with the same arguments that writes its results into out arguments; of a view, that of its copying
    twin.

    None where PyTorch registered none, as for operators of users.
    """
    schema = overload._schema
    packet = overload.overloadpacket
    if any(argument.alias_info is not None for argument in schema.arguments):
        namespace, _, name = schema.name.partition("::")
        twin = getattr(getattr(torch.ops, namespace), f"{name}_copy", None)
        packet = twin or packet
    wanted = [(argument.name, str(argument.type)) for argument in schema.arguments]
    for dropped in (frozenset(), _NOT_IN_OUT):
        expected = [entry for entry in wanted if entry[0] not in dropped]
        for name in packet.overloads():
            candidate = getattr(packet, name)
            arguments = candidate._schema.arguments
            found = [(argument.name, str(argument.type)) for argument in arguments if not argument.is_out]
            if any(argument.is_out for argument in arguments) and found == expected:
                return candidate  # type: ignore[no-any-return]
    return None


def out_name(overload: torch._ops.OpOverload) -> str:
    """`aten::add.out` for `aten.add.Tensor`. An operator without out variant, a user's own, is named as if it had
    one."""
    variant = out_variant(overload)
    if variant is not None:
        schema = variant._schema
        return f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    name = overload._schema.overload_name
    return f"{overload._schema.name}.{name + '_' if name else ''}out"


def arguments(
    overload: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[tuple[str, str, Any]]:
    """(name, kind, value) of each argument of the out variant, out arguments left out, defaults written out.

    `kind` is the schema's type word. Values are still the graph's (nodes, torch dtypes).
    """
    variant = out_variant(overload)
    given = {argument.name: value for argument, value in zip(overload._schema.arguments, args, strict=False)}
    given.update(kwargs)
    found = []
    for argument in (variant or overload)._schema.arguments:
        if argument.is_out:
            continue
        value = given.get(argument.name, argument.default_value)
        kind = str(argument.real_type)
        if isinstance(value, (bool, int, float)) and kind.startswith(("List[", "Optional[List[")):
            # `int[2] padding=0` may be given as one number for all
            value = [value] * (getattr(argument, "N", None) or 1)
        found.append((argument.name, kind, value))
    return found


SCALAR_TYPES: dict[torch.dtype, int] = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.float64: 7, torch.bool: 11, torch.bfloat16: 15,
}  # fmt: skip
"""ExecuTorch's ScalarType codes (c10's)."""

MEMORY_FORMATS: dict[torch.memory_format, int] = {
    torch.contiguous_format: 0,
    torch.preserve_format: 1,
    torch.channels_last: 2,
}


HALVES = (torch.float16, torch.bfloat16)


def dtype_of(dtype: torch.dtype, *, constant: bool = False) -> DType:
    """The project's type; ValueError where it has none (complex), or none but for constants (float16, bfloat16)."""
    found = next((one for one in DType if one.code == SCALAR_TYPES.get(dtype)), None)
    if found is None or (dtype in HALVES and not constant):
        raise ValueError(f"{dtype} is not supported")
    return found


def to_array(tensor: torch.Tensor) -> Array:
    """A copy of its elements."""
    dense = tensor.contiguous()
    if tensor.dtype is torch.bfloat16:
        return dense.view(torch.uint16).numpy().view(DType.BFLOAT16.numpy).copy()
    return dense.numpy().copy()


def to_tensor(array: Array) -> torch.Tensor:
    """A copy of its elements, for PyTorch."""
    if array.dtype == DType.BFLOAT16.numpy:
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
