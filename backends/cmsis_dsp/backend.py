"""CMSIS-DSP (Arm, Apache-2.0) as a delegate: real transforms, FIR filters and products of float matrices. Nothing of it
is in this repository: the build that asks for it fetches the source package of PyPI's cmsisdsp."""

import json
import re

import numpy as np

from etexport.backend import Backend, Claims, Compiled
from etexport.kernel.call import Call, Const, Package, Read, Scratch, Sources, Write
from etexport.program.model import DType
from etexport.sources import folder_of

PACKAGE = Package(
    "cmsisdsp",
    "1.10.3",
    "307d32298faa7c58db912851027fce35f886fec7eb1a27c4b309ce1a97f47519",
    include=("Include", "PrivateInclude"),
)
FILES = {
    "transform": (
        "BasicMathFunctions/arm_mult_f32.c",
        *(f"TransformFunctions/arm_{name}.c" for name in ("bitreversal2", "cfft_f32", "cfft_radix8_f32")),
        "TransformFunctions/arm_rfft_fast_f32.c",
    ),
    "filter": ("BasicMathFunctions/arm_offset_f32.c", "FilteringFunctions/arm_fir_f32.c"),
    "product": ("BasicMathFunctions/arm_add_f32.c", "MatrixFunctions/arm_mat_mult_f32.c"),
}
"""What each kind of call is made of, in the package's Source/."""
LENGTHS = tuple(2**n for n in range(5, 13))
"""Of real transforms, as arm_rfft_fast_f32 takes them."""
BLOCK = 64
"""Samples that a filter is given at a time: its state is as long, and its taps."""
PRODUCTS = ("aten::mm.out", "aten::bmm.out", "aten::addmm.out")


def claim(nodes, options):
    """Each node by itself. `take` in the options leaves some kinds to the kernels."""
    unknown = set(options) - {"take"} or set(options.get("take", ())) - set(FILES)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: the option is take, a list of {', '.join(FILES)}")
    known = [node for node in nodes if node.instruction.op in (*PRODUCTS, "aten::convolution.out")]
    reasons = {node.instruction.handle: refused(node, options.get("take", tuple(FILES))) for node in known}
    taken = [[handle] for handle, why in reasons.items() if why is None]
    return Claims(taken, {handle: why for handle, why in reasons.items() if why})


def refused(node, take):
    op = node.instruction.op
    if any(value.spec.dtype is not DType.FLOAT32 for value in (*node.tensors, node.out)):
        return "not float32"
    kind = kind_of(op, weights_of(node))
    fits = {"filter": is_filter, "transform": is_frames}
    if op not in PRODUCTS and (kind is None or not is_plain(node) or not fits[kind](node)):
        return "a convolution that is no filter of each channel, and no transform"
    if op == "aten::addmm.out" and (node["alpha"] != 1 or node["beta"] != 1 or bias_of(node) is None):
        return "scaled, or the bias is no vector"
    return None if kind in take else f"{kind} is not in take"


def weights_of(node):
    """Constant weights; None for a product of two operands."""
    value = node["weight"] if node.instruction.op == "aten::convolution.out" else node["mat2"]
    return value.data


def bias_of(node):
    value = node["bias"] if node.instruction.op == "aten::convolution.out" else node["self"]
    return value.data if value is not None and value.data is not None and value.data.ndim == 1 else None


def kind_of(op, weights):
    """What computes the operator; None for a convolution of more than one dimension."""
    if op != "aten::convolution.out":
        return "product" if weights is None or op != "aten::mm.out" or window_of(weights.T) is None else "transform"
    if weights is None or weights.ndim != 3 or weights.shape[1] != 1:
        return None
    return "filter" if window_of(weights[:, 0]) is None else "transform"


def is_plain(node):
    """A convolution of one dimension without padding, dilation, or turned round."""
    return not node["transposed"] and [*node["padding"], *node["dilation"]] == [0, 1]


def is_filter(node):
    x, channels = node["input"].spec, node["weight"].spec.shape[0]
    constant = node["bias"] is None or bias_of(node) is not None
    return constant and [*node["stride"]] == [1] and node["groups"] == channels == x.shape[1]


def is_frames(node):
    return node["bias"] is None and node["input"].spec.shape[1] == 1


def fourier(length):
    """Real parts of all bins, then imaginary ones, as rows: of a real signal there are length / 2 + 1 bins."""
    turns = np.outer(np.arange(length // 2 + 1), np.arange(length)) * (2 * np.pi / length)
    return np.concatenate([np.cos(turns), -np.sin(turns)])


def window_of(weights):
    """The window (length,) of weights (bins, length) that are a Fourier transform of windowed frames; None for
    others."""
    length = weights.shape[1]
    if length not in LENGTHS or len(weights) != length + 2:
        return None
    window = weights[0]
    close = np.abs(weights - fourier(length) * window).max() <= 1e-6 * np.abs(window).max()
    return window if close else None


def compile(part, options):
    """The arrays that its functions read, one behind the other; `form` says which."""
    (one,) = part.instructions
    known = {value.id: value.data for value in part.values.values() if value.data is not None}
    arguments = [known.get(getattr(value, "id", None)) for value in one.args]
    if one.op == "aten::convolution.out":
        weights, bias = arguments[1:3]
        kind, rows = kind_of(one.op, weights), weights[:, 0]
    else:
        bias, weights = (arguments[0], arguments[2]) if one.op == "aten::addmm.out" else (None, arguments[1])
        kind, rows = kind_of(one.op, weights), weights.T if weights is not None and weights.ndim == 2 else weights
    arrays = tables(window_of(rows)) if kind == "transform" else {"weight": weights, "bias": bias}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    form = {"kind": kind, "arrays": {name: [str(array.dtype), array.size] for name, array in arrays.items()}}
    if kind == "transform":
        form["hop"] = int(one.args[3][0]) if one.op == "aten::convolution.out" else arrays["window"].size
    blob = b"".join(array.tobytes() for array in arrays.values())
    return Compiled(blob, {"form": json.dumps(form).encode()})


def tables(window):
    """The window, the factors of both stages, and in which order the first one leaves its results: that is a table of
    the package."""
    length = len(window)
    half = np.arange(length // 2)
    inner, outer = half * (4 * np.pi / length), half * (2 * np.pi / length)
    text = (folder_of(PACKAGE) / "Source" / "CommonTables" / "arm_common_tables.c").read_text("utf-8", "replace")
    table = re.search(rf"armBitRevIndexTable{length // 2}\[[^{{]*{{(.*?)}}", text, re.DOTALL)
    swaps = re.sub(r"/\*.*?\*/", "", table[1], flags=re.DOTALL)
    return {
        "window": window.astype(np.float32),
        "inner": np.stack([np.cos(inner), np.sin(inner)], 1).astype(np.float32),
        "outer": np.stack([np.sin(outer), np.cos(outer)], 1).astype(np.float32),
        "swaps": np.array([int(number) for number in swaps.split(",") if number.strip()], np.int16),
    }


def run(node, delegate, target):
    form, at, arrays = json.loads(dict(delegate.specs)["form"]), 0, {}
    for name, (dtype, count) in form["arrays"].items():
        arrays[name] = np.frombuffer(delegate.blob, dtype, count, at)
        at += arrays[name].nbytes
    kind = form["kind"]
    geometry, operands, macs = {"transform": transform, "filter": filter_, "product": product}[kind](node, arrays, form)
    files = tuple(f"Source/{name}" for name in FILES[kind])
    # less of CMSIS-Core, which is another package; float functions need none of it
    flags = ("-D__GNUC_PYTHON__",)
    package = Package(PACKAGE.name, PACKAGE.version, PACKAGE.sha256, files, PACKAGE.include)
    sources = Sources((f"{kind}.c",), (), flags, (package,))
    return Call(f"cmsis_{kind}", "cmsis_dsp.h", geometry, operands, macs=macs, sources=sources)


def transform(node, arrays, form):
    x, out, length = node.tensors[0], node.out, arrays["window"].size
    frames = out.spec.numel // (length + 2)
    if len(x.spec.shape) == 3:  # (images, 1, samples) to (images, bins, frames)
        images, here = x.spec.shape[0], out.spec.shape[2]
        steps = {
            "images": images, "image": x.spec.shape[2], "frames": here, "bin_step": here, "frame_step": 1
        }  # fmt: skip
    else:  # (frames, samples) to (frames, bins)
        steps = {"images": 1, "image": 0, "frames": frames, "bin_step": 1, "frame_step": length + 2}
    geometry = {"length": length, "swaps": arrays["swaps"].size, "hop": form["hop"], **steps}
    constants = (Const(name, array) for name, array in arrays.items())
    operands = (Write(out.id), Read(x.id), *constants, Scratch(DType.FLOAT32, 2 * length))
    return geometry, operands, frames * length * (length.bit_length() - 1)


def filter_(node, arrays, form):
    x, out = node.tensors[0], node.out
    rows, channels = out.spec.shape[0] * out.spec.shape[1], out.spec.shape[1]
    count, taps = out.spec.shape[2], arrays["weight"].size // channels
    geometry = {"rows": rows, "channels": channels, "count": count, "taps": taps, "block": min(BLOCK, count)}
    state = Scratch(DType.FLOAT32, taps - 1 + geometry["block"])
    operands = (Write(out.id), Read(x.id), Const("weight", arrays["weight"]), Const("bias", arrays.get("bias")), state)
    return geometry, operands, rows * count * taps


def product(node, arrays, form):
    """Of each matrix (rows, inner) with (inner, columns); constant weights are the second one."""
    left, out = node.tensors[0], node.out
    *many, rows, columns = out.spec.shape
    inner, matrices = left.spec.shape[-1], int(np.prod(many, dtype=np.int64))
    right = Const("weight", arrays["weight"]) if "weight" in arrays else Read(node.tensors[-1].id)
    geometry = {"matrices": matrices, "rows": rows, "inner": inner, "columns": columns}
    operands = (Write(out.id), Read(left.id), right, Const("bias", arrays.get("bias")))
    return geometry, operands, matrices * rows * inner * columns


BACKEND = Backend("CmsisDsp", run, claim, compile)
