"""How an operator's results stand among the arguments of a call in a `.pte` file.

A call lists the operator's arguments in schema order, then the out arguments, then one entry more for the result: the
out once again, or a list of the outs where there are several or where the operator has a list as its out argument.
"""

from __future__ import annotations

from etexport.program.names import base_name
from etexport.program.operators import QUANTIZED_CONVOLUTION, QUANTIZED_DEPTHWISE, SPLIT, SPLIT_WITH_SIZES, UNBIND

LIST_OUT = frozenset(
    {
        "aten::chunk_copy.out",
        SPLIT,
        SPLIT_WITH_SIZES,
        "aten::tensor_split.sections_out",
        UNBIND,
        "aten::unsafe_split.Tensor_out",
        "aten::unsafe_split_with_sizes.out",
    }
)
"""Operators whose one out argument is a list of tensors: the number of results says nothing about which form a call
has."""

SCRATCH = {
    QUANTIZED_CONVOLUTION: 1,
    QUANTIZED_DEPTHWISE: 1,
    "cortex_m::quantized_transpose_conv2d.out": 2,
    "cortex_m::quantized_avg_pool2d.out": 1,
    "cortex_m::quantized_batch_matmul.out": 1,
}
"""Operators whose last arguments before the out, so many, are memory that the call may use. Its size is made for one
core's kernels, and nothing has written it: in a Program it is None."""


def is_in_place(op: str) -> bool:
    """PyTorch's rule of names: `aten::copy_` writes onto its first argument and returns it, without an out argument."""
    name = base_name(op)
    return name.endswith("_") and not name.endswith("__")


def split_name(op: str) -> tuple[str, str]:
    """(`aten::add`, `out`) of `aten::add.out`; the overload may be empty."""
    name, _, overload = op.partition(".")
    return name, overload
