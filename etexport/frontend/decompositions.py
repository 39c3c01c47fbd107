"""What torch.export leaves whole and has no kernel here is said in operators that have one, beside PyTorch's own
decompositions.

Each function has the overload's arguments, and says what eager PyTorch computes for them. `NotImplemented` leaves the
operator as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions

from etexport.frontend.recurrent import recurrent

aten = torch.ops.aten


def decompositions(*, stock: bool) -> dict[Any, Callable[..., Any]]:
    """PyTorch's default ones, what it has beside these, and ours. `stock`: into operators that ExecuTorch has."""
    table: dict[Any, Callable[..., Any]] = dict(torch.export.default_decompositions())
    table.update(get_decompositions(list(_THEIRS)))
    table.update(_OURS)
    if hasattr(torch.ops.torchao, "dequantize_affine"):  # torchao is imported, by what made the network
        table[torch.ops.torchao.dequantize_affine.default] = _dequantize_affine
    return table if stock else {**table, **recurrent()}


_THEIRS = (
    aten.logaddexp.default,
    aten.dist.default,
)


def _var_mean(
    x: Tensor, dim: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    every = dim or list(range(x.dim()))
    return aten.var.correction(x, every, correction=correction, keepdim=keepdim), aten.mean.dim(x, every, keepdim)


def _roll(x: Tensor, shifts: list[int], dims: list[int] | None = None) -> Any:
    """In pieces, which are addresses or rows: PyTorch's own is an index for each element of a dimension."""
    if not dims:
        return _roll(x.reshape(-1), shifts, [0]).reshape(x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim] if x.dim() else 0
        if not isinstance(size, int) or not isinstance(shift, int):
            return NotImplemented  # sizes that only the device knows
        if size and shift % size:
            kept = size - shift % size
            x = torch.cat([x.narrow(dim, kept, size - kept), x.narrow(dim, 0, kept)], dim)
    return x.clone()


# ---- products --------------------------------------------------------------------------------------------------------


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Of rows that lie anyhow: where they do not lie one behind the other, PyTorch makes a batched product with copies
    of the weight."""
    rows, columns = x.reshape(-1, x.shape[-1]), weight.t()
    product = torch.mm(rows, columns) if bias is None else torch.addmm(bias, rows, columns)
    return product.reshape(*x.shape[:-1], weight.shape[0])


def _mv(matrix: Tensor, vector: Tensor) -> Tensor:
    """A product like others: as a sum of products the whole matrix, multiplied, would lie in memory."""
    return torch.mm(matrix, vector.unsqueeze(1)).squeeze(1)


def _addmv(x: Tensor, matrix: Tensor, vector: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = torch.mv(matrix, vector)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (x if beta == 1 else x * beta)


def _addbmm(x: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = torch.bmm(batch1, batch2).sum(0) * alpha
    return product if beta == 0 else x * beta + product


def _trilinear(
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
) -> Tensor:
    product: Any = 1
    for factor, expanded in ((i1, expand1), (i2, expand2), (i3, expand3)):
        for dim in expanded:
            factor = factor.unsqueeze(dim)
        product = factor * product
    return product.sum(sumdim) if sumdim else product  # type: ignore[no-any-return]


def _rrelu(
    x: Tensor, noise: Tensor, lower: float = 0.125, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Any:
    return NotImplemented if training else (torch.nn.functional.leaky_relu(x, (lower + upper) / 2), noise)


# ---- distances -------------------------------------------------------------------------------------------------------


def _norm(difference: Tensor, p: float) -> Tensor:
    """Along the last dimension."""
    size = difference.abs()
    if p == 0:
        return (size != 0).to(size.dtype).sum(-1)
    if p == 1:
        return size.sum(-1)
    if p == 2:
        return (difference * difference).sum(-1).sqrt()
    return size.amax(-1) if math.isinf(p) else size.pow(p).sum(-1).pow(1.0 / p)


def _cdist(x1: Tensor, x2: Tensor, p: float, compute_mode: int | None) -> Any:
    if p in (1, 2, math.inf):
        return NotImplemented  # the passes know these, for files of ExecuTorch's too
    return _norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


def _pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """Of each pair, in the order (0, 1), (0, 2), .. (1, 2), .."""
    count = x.shape[0]
    every = _norm(x.unsqueeze(-2) - x.unsqueeze(-3), p)
    return torch.cat([every[at, at + 1 :] for at in range(count - 1)]) if count > 1 else every[0, 1:]


# ---- places in an order ----------------------------------------------------------------------------------------------


def _bucketize(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    return _searched(boundaries, x, out_int32, right)


def _searchsorted(
    sorted_sequence: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Any:
    if sorter is not None:
        return NotImplemented
    if sorted_sequence.dim() > 1:
        sorted_sequence = sorted_sequence.unsqueeze(-2)
    return _searched(sorted_sequence, x, out_int32, right or side == "right")


def _searched(boundaries: Tensor, x: Tensor, out_int32: bool, right: bool) -> Tensor:
    """How many boundaries lie below; a NaN lies above all of them."""
    above = boundaries > x.unsqueeze(-1) if right else boundaries >= x.unsqueeze(-1)
    return above.logical_not().sum(-1).to(torch.int32 if out_int32 else torch.int64)


def _nth(x: Tensor, at: int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The element that is at this place in ascending order, and where it stands."""
    values, indices = torch.sort(x, dim=dim)
    found = values.select(dim, at), indices.select(dim, at)
    return (found[0].unsqueeze(dim), found[1].unsqueeze(dim)) if keepdim else found


def _kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return NotImplemented if x.dim() == 0 else _nth(x, k - 1, dim, keepdim)


def _median(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The lower one of two in the middle; NaN where there is one, which sorting puts last."""
    if x.dim() == 0:
        return NotImplemented
    values, indices = _nth(x, (x.shape[dim] - 1) // 2, dim, keepdim)
    if not x.is_floating_point():
        return values, indices
    last_value, last = _nth(x, x.shape[dim] - 1, dim, keepdim)
    odd = torch.isnan(last_value)
    return torch.where(odd, last_value, values), torch.where(odd, last, indices)


def _median_of_all(x: Tensor) -> Any:
    found = _median(x.reshape(-1), 0)
    return found[0]


# ---- bits ------------------------------------------------------------------------------------------------------------


def _shifted_left(x: Tensor, places: Any) -> Any:
    if x.is_floating_point() or not isinstance(places, int) or not 0 <= places < 31:
        return NotImplemented
    return x * (1 << places)


def _shifted_right(x: Tensor, places: Any) -> Any:
    if x.is_floating_point() or not isinstance(places, int) or not 0 <= places < 31:
        return NotImplemented
    return torch.div(x, 1 << places, rounding_mode="floor")


def _round_decimals(x: Tensor, *, decimals: int) -> Any:
    """As PyTorch does: the scaled number to the nearest even, in the type of x."""
    if not x.is_floating_point():
        return x
    power = float(10 ** abs(decimals))
    return (
        torch.round(x * power) / power
        if decimals > 0
        else torch.round(x / power) * power
        if decimals < 0
        else torch.round(x)
    )


# ---- equations: what is singular gives infinities or NaN on the board, where eager PyTorch raises an error -----------


def _inverse(a: Tensor) -> Tensor:
    return torch.linalg.inv_ex(a)[0]  # type: ignore[no-any-return]


def _solution(a: Tensor, b: Tensor, *, left: bool = True) -> Tensor:
    return torch.linalg.solve_ex(a, b, left=left)[0]  # type: ignore[no-any-return]


def _cholesky(a: Tensor, *, upper: bool = False) -> Tensor:
    return torch.linalg.cholesky_ex(a, upper=upper)[0]  # type: ignore[no-any-return]


# ---- weights in few bits ---------------------------------------------------------------------------------------------


def _dequantize_affine(
    stored: Tensor,
    block_size: list[int],
    scale: Tensor,
    zero_point: Tensor | None,
    input_dtype: torch.dtype,
    quant_min: int | None = None,
    quant_max: int | None = None,
    output_dtype: torch.dtype = torch.float32,
) -> Any:
    """torchao's groups, along the dimension in which they are longest, as ExecuTorch's channels of shorter rows."""
    if output_dtype is not torch.float32 or input_dtype is not torch.int8:
        return NotImplemented

    def of_groups(each: Tensor) -> Tensor:
        each = each.reshape([full // size for full, size in zip(stored.shape, block_size, strict=True)])
        for dim, size in enumerate(block_size):
            each = each if size == 1 or dim == along else each.repeat_interleave(size, dim)
        return each.movedim(along, -1).reshape(-1)

    along = max(range(len(block_size)), key=lambda dim: (block_size[dim], dim))
    low, high = -128 if quant_min is None else int(quant_min), 127 if quant_max is None else int(quant_max)
    zeros = None if zero_point is None else of_groups(zero_point).to(torch.int64)
    rows = stored.movedim(along, -1)
    groups = (rows.reshape(-1, block_size[along]), of_groups(scale), zeros, 0, low, high, input_dtype)
    real = torch.ops.quantized_decomposed.dequantize_per_channel.default(*groups)
    return real.reshape(rows.shape).movedim(-1, along)


# ---- bags of embeddings ----------------------------------------------------------------------------------------------

_SUM, _MEAN, _MAX = range(3)


def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows are looked up and joined with those of their bag; an empty bag gives zeros. What only a backward pass reads
    is left empty."""
    bags = offsets.shape[0] - int(include_last_offset)
    count = indices.shape[0]
    bag_of = (torch.arange(count).unsqueeze(1) >= offsets[1:bags].to(torch.int64)).sum(1)
    rows = torch.nn.functional.embedding(indices, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    taken = indices != padding_idx if padding_idx >= 0 else None
    joined = torch.zeros(bags, weight.shape[1], dtype=weight.dtype)
    sizes = torch.zeros(bags, dtype=weight.dtype).index_add(
        0, bag_of, torch.ones(count) if taken is None else taken.to(weight.dtype)
    )
    if mode == _MAX:
        if taken is not None:
            rows = torch.where(taken.unsqueeze(1), rows, -math.inf)
        joined = joined.scatter_reduce(0, bag_of.unsqueeze(1).expand_as(rows), rows, "amax", include_self=False)
        joined = torch.where(sizes.unsqueeze(1) > 0, joined, 0.0)
    else:
        if taken is not None:
            rows = torch.where(taken.unsqueeze(1), rows, 0.0)
        joined = joined.index_add(0, bag_of, rows)
        if mode == _MEAN:
            joined = joined / sizes.clamp(min=1.0).unsqueeze(1)
    empty = torch.zeros(0, dtype=torch.int64)
    return joined, bag_of, empty, empty


# ---- volumes: pooling along rows and columns, then along depth -------------------------------------------------------


def _triple(value: Any) -> tuple[int, int, int]:
    values = [value] * 3 if isinstance(value, int) else [*value] * (3 if len(value) == 1 else 1)
    return values[0], values[1], values[2]


def _by_depth(x: Tensor, images: Callable[[Tensor], Tensor], rows: Callable[[Tensor], Tensor]) -> Tensor:
    """`images` of each slice, (N, C * D, H, W), then `rows` of what these give, (N * C, D, H * W)."""
    *outer, channels, depth, height, width = x.shape
    batch = outer[0] if outer else 1
    pooled = images(x.reshape(batch, channels * depth, height, width))
    height, width = pooled.shape[-2:]
    volumes = rows(pooled.reshape(batch * channels, depth, height * width))
    return volumes.reshape(*outer, channels, volumes.shape[-2], height, width)


def _max_pool3d(
    x: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    kernel, pads, steps = _triple(kernel_size), _triple(padding), _triple(dilation)
    strides = _triple(stride) if not isinstance(stride, (list, tuple)) or len(stride) else kernel
    return _by_depth(
        x,
        lambda images: torch.max_pool2d(images, kernel[1:], strides[1:], pads[1:], steps[1:], ceil_mode),
        lambda rows: torch.max_pool2d(rows, (kernel[0], 1), (strides[0], 1), (pads[0], 0), (steps[0], 1), ceil_mode),
    )


def _avg_pool3d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """A mean of means: the number of elements of a window is a product, of padded ones too."""
    if divisor_override is not None:
        return NotImplemented
    kernel, pads = _triple(kernel_size), _triple(padding)
    strides = _triple(stride) if not isinstance(stride, (list, tuple)) or len(stride) else kernel
    if kernel[1:] == strides[1:] == (1, 1) and pads[1:] == (0, 0):
        return NotImplemented  # local response normalisation, which the passes know
    return _by_depth(
        x,
        lambda images: aten.avg_pool2d.default(images, kernel[1:], strides[1:], pads[1:], ceil_mode, count_include_pad),
        lambda rows: aten.avg_pool2d.default(
            rows, (kernel[0], 1), (strides[0], 1), (pads[0], 0), ceil_mode, count_include_pad
        ),
    )


def _adaptive_avg_pool3d(x: Tensor, output_size: Any) -> Tensor:
    depth, height, width = _triple(output_size)
    return _by_depth(
        x,
        lambda images: aten._adaptive_avg_pool2d.default(images, (height, width)),
        lambda rows: aten._adaptive_avg_pool2d.default(rows, (depth, rows.shape[-1])),
    )


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:
    """Of volumes: the slices that a window sees become channels of an image, and each result slice an image of its
    own."""
    if x.dim() != 5 or transposed:
        return NotImplemented
    batch, channels, _, height, width = x.shape
    outputs, own, taps, *window = weight.shape
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    depth = (padded.shape[2] - dilation[0] * (taps - 1) - 1) // stride[0] + 1
    places = torch.arange(depth).unsqueeze(1) * stride[0] + torch.arange(taps) * dilation[0]
    seen = padded.index_select(2, places.reshape(-1)).reshape(batch, channels, depth, taps, height, width)
    images = seen.permute(0, 2, 1, 3, 4, 5).reshape(batch * depth, channels * taps, height, width)
    kernel = weight.reshape(outputs, own * taps, *window)
    found = aten.convolution.default(images, kernel, bias, stride[1:], padding[1:], dilation[1:], False, [0, 0], groups)
    return found.reshape(batch, depth, outputs, *found.shape[-2:]).permute(0, 2, 1, 3, 4)


_OURS: Mapping[Any, Callable[..., Any]] = {
    aten._trilinear.default: _trilinear,
    aten.rrelu_with_noise_functional.default: _rrelu,
    aten.var_mean.correction: _var_mean,
    aten.roll.default: _roll,
    aten.linear.default: _linear,
    aten.mv.default: _mv,
    aten.addmv.default: _addmv,
    aten.addbmm.default: _addbmm,
    aten._cdist_forward.default: _cdist,
    aten._pdist_forward.default: _pdist,
    aten.bucketize.Tensor: _bucketize,
    aten.searchsorted.Tensor: _searchsorted,
    aten.kthvalue.default: _kthvalue,
    aten.median.dim: _median,
    aten.median.default: _median_of_all,
    aten.__lshift__.Scalar: _shifted_left,
    aten.bitwise_left_shift.Tensor_Scalar: _shifted_left,
    aten.__rshift__.Scalar: _shifted_right,
    aten.bitwise_right_shift.Tensor_Scalar: _shifted_right,
    aten.round.decimals: _round_decimals,
    aten._embedding_bag.default: _embedding_bag,
    aten._embedding_bag_forward_only.default: _embedding_bag,
    aten.linalg_inv.default: _inverse,
    aten.inverse.default: _inverse,
    aten.linalg_solve.default: _solution,
    aten.linalg_cholesky.default: _cholesky,
    aten.max_pool3d.default: _max_pool3d,
    aten.avg_pool3d.default: _avg_pool3d,
    aten._adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
    aten.convolution.default: _convolution,
}
