"""Names of operators that more than one stage knows: those that passes rewrite, fusion looks for and the front end
writes.

A name that one file alone knows stands there. What is to be done with an operator is said in its kernel folder, by a
field of `Op`.
"""

from __future__ import annotations

CONVOLUTION = "aten::convolution.out"
LINEAR = "aten::linear.out"
ADDMM = "aten::addmm.out"
MM = "aten::mm.out"

VIEW = "aten::view_copy.out"
PERMUTE = "aten::permute_copy.out"
TRANSPOSE = "aten::transpose_copy.int_out"
SLICE = "aten::slice_copy.Tensor_out"
SELECT = "aten::select_copy.int_out"
SPLIT = "aten::split_copy.Tensor_out"
SPLIT_WITH_SIZES = "aten::split_with_sizes_copy.out"
UNBIND = "aten::unbind_copy.int_out"
PAD = "aten::constant_pad_nd.out"
CAT = "aten::cat.out"
WHERE = "aten::where.self_out"

FULL_LIKE = "aten::full_like.out"
ZEROS_LIKE = "aten::zeros_like.out"
ONES_LIKE = "aten::ones_like.out"
ARANGE = "aten::arange.start_out"

WRITE_BACK = "aten::copy_"
"""A state is written: the first operand and the result are the state."""
CLONE = "dim_order_ops::_clone_dim_order.out"
"""A tensor in another dim order: at the inputs and outputs of a channels-last model, and no computing."""
CONVERT = "dim_order_ops::_to_dim_order_copy.out"
"""The same, which may be in another element type too."""
ET_VIEW = "executorch_prim::et_view.default"
"""A view as an instruction: (self, size, out) and nothing repeated; out gets self's pointer."""

ROUND_ROWS = "etexport::round_rows.out"
"""Each row of its operand as int8 with a scale of its own would have it, in float."""

QUANTIZE = "quantized_decomposed::quantize_per_tensor.out"
DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor.out"
DEQUANTIZE_CHANNELS = "quantized_decomposed::dequantize_per_channel.out"
"""The board-neutral form of int8: round float operators."""
KERNEL_QUANTIZE = "cortex_m::quantize_per_tensor.out"
KERNEL_DEQUANTIZE = "cortex_m::dequantize_per_tensor.out"
"""What is left of it on a board, where integers begin and end."""
QUANTIZED_CONVOLUTION = "cortex_m::quantized_conv2d.out"
QUANTIZED_DEPTHWISE = "cortex_m::quantized_depthwise_conv2d.out"

SIZE = "aten::sym_size.int"
"""One size of a tensor, as a number: its result is an int64 without dimensions here, an Int in a file."""


def is_number(op: str) -> bool:
    """Whether the operator computes numbers from numbers, as sizes are: ExecuTorch's own that make no tensors."""
    return op == SIZE or (op.startswith("executorch_prim::") and not op.startswith("executorch_prim::et_"))
