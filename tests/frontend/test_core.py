"""What becomes of each operator of Core ATen, the set that PyTorch's exporters aim at."""

from __future__ import annotations

from pathlib import Path

import torch

from etexport.frontend.decompositions import decompositions
from etexport.frontend.lower import SAME
from etexport.frontend.operators import out_name
from etexport.kernel.library import load_ops
from etexport.passes.rewrites import FORMS

OTHERWISE = {
    "_to_copy.default": "a cast or nothing",
    "arange.start_step": "a constant",
    "empty.memory_format": "zeros, a constant",
    "empty_strided.default": "a constant",
    "full_like.default": "a constant",
    "mean.default": "a mean over all dimensions",
    "scalar_tensor.default": "a constant",
    "split_with_sizes.default": "slices",
    "sym_numel.default": "a number: shapes are fixed",
    "sym_storage_offset.default": "a number: shapes are fixed",
}
"""Neither a kernel nor a decomposition nor a form: what capture, lowering or a pass of its own makes of it."""

REFUSED = (
    "_adaptive_avg_pool2d_backward", "avg_pool2d_backward", "convolution_backward", "max_pool2d_with_indices_backward",
    "_fft_c2r", "_fft_r2c", "_local_scalar_dense", "nonzero", "native_dropout", "rand", "randn", "randperm",
    "_native_batch_norm_legit", "max_pool3d_with_indices",
)  # fmt: skip
"""docs/capture.md gives the reasons."""


def test_every_operator_of_core_aten_is_built_or_refused_with_a_reason() -> None:
    library, table = load_ops(), decompositions(stock=False)
    left: set[str] = set()
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        for overload in (getattr(packet, one) for one in getattr(packet, "overloads", list)()):
            if torch.Tag.core not in overload.tags or any(argument.is_out for argument in overload._schema.arguments):
                continue
            known = (
                library.find(out_name(overload)) is not None
                or out_name(overload) in FORMS
                or overload in table
                or overload in SAME
            )
            left.update(() if known else [str(overload).removeprefix("aten.")])
    assert left == {*OTHERWISE, *(f"{name}.default" for name in REFUSED)}


def test_the_page_names_what_is_refused() -> None:
    page = (Path(__file__).parents[2] / "docs" / "capture.md").read_text()
    assert not [name for name in REFUSED if f"`{name}`" not in page]
