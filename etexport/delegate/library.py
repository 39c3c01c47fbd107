"""The operators of a program's own: one for each delegate that it calls, so that every stage takes a call as it takes
any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from etexport.backend import Backend
from etexport.delegate.load import load_backends, told
from etexport.errors import EtError, ModelError, raise_all
from etexport.kernel.call import Call, Const, Target
from etexport.kernel.library import Library
from etexport.kernel.node import Node, node_of
from etexport.kernel.op import Op, spec_of
from etexport.program import pte
from etexport.program.model import Array, Delegate, DType, Instruction, Method, Program, Role, Value
from etexport.program.operators import DEQUANTIZE, DEQUANTIZE_CHANNELS, KERNEL_DEQUANTIZE, KERNEL_QUANTIZE, QUANTIZE
from etexport.resources import backend_folders

SUBGRAPH = "etexport.program"
"""The key under which what was compiled travels, where a backend has no reference of its own: a `.pte`."""


def library_for(program: Program, library: Library) -> Library:
    """The operators, with those of the program's delegates. ModelError, or `Errors` of all: a backend that is not
    there."""
    if not program.delegates:
        return library
    backends = {backend.id: backend for backend in load_backends(library.project).values()}
    ops, errors = dict(library.ops), list[EtError]()
    for name, delegate in program.delegates.items():
        if (backend := backends.get(delegate.id)) is None:
            known = ", ".join(sorted(backends)) or "none"
            what = f"the program calls the delegate {delegate.id!r}, and no backend that is known here runs it"
            hint = f"known: {known}; --backends DIR names a folder of delegates"
            errors.append(ModelError(what, where=_where(program, name), hint=hint))
        else:
            ops[name] = _op(delegate, backend, library)
    raise_all(errors)
    return replace(library, ops=ops, include_dirs=(*library.include_dirs, *backend_folders(library.project)))


def _where(program: Program, op: str) -> str:
    calls = (one for method in program.methods for one in method.instructions if one.op == op)
    return next((one.where for one in calls), "")


def _op(delegate: Delegate, backend: Backend, library: Library) -> Op:
    subgraph = None if backend.reference else _subgraph(delegate)

    def lower(node: Node, target: Target) -> Call:
        with told(backend, f"failed to run {node.instruction.name}"):
            call = backend.run(node, delegate, target)
            if not isinstance(call, Call):
                raise TypeError(f"run() gave a {type(call).__name__}")
            for operand in call.operands:
                if isinstance(operand, Const) and operand.data is not None:
                    DType.of_numpy(operand.data.dtype)  # ValueError for one that no constant has
            return call

    def reference(*inputs: Array) -> tuple[Array, ...]:
        with told(backend, "failed to compute its reference"):
            if subgraph is not None:
                return computed(subgraph, inputs, library)
            assert backend.reference is not None
            made = backend.reference(delegate, *inputs)
            results = tuple(map(np.asarray, made if isinstance(made, tuple) else (made,)))
            if [one.shape for one in results] != [spec.shape for spec in delegate.outputs]:
                raise ValueError(f"shapes {[one.shape for one in results]}, the results have others")
            return results

    def sum_length(_: Node) -> int:
        if subgraph is not None:
            return _terms(subgraph, library)
        return backend.sum_length(delegate) if backend.sum_length else 1

    ins = ", ".join(f"Tensor in_{at}" for at in range(len(delegate.inputs)))
    outs = ", ".join(f"Tensor(a!) out_{at}" for at in range(len(delegate.outputs)))
    op = Op(
        f"{delegate.op}({ins}, *, {outs}) -> ({', '.join(['Tensor(a!)'] * len(delegate.outputs))})",
        infer=lambda node: tuple(map(spec_of, delegate.outputs)),
        lower=lower,
        dtypes=tuple(DType) if not delegate.inputs else (delegate.inputs[0].dtype,),
        reference=reference if backend.reference or subgraph else None,
        layout=backend.layout,
        exact=backend.exact,
        sum_length=sum_length,
    )
    object.__setattr__(op, "family", backend.family)
    return op


def _subgraph(delegate: Delegate) -> Method | None:
    content = dict(delegate.specs).get(SUBGRAPH)
    return None if content is None else pte.read(content).method()


def computed(method: Method, inputs: tuple[Array, ...], library: Library) -> tuple[Array, ...]:
    """The outputs of a method without jumps, each operator by its numpy meaning."""
    known: dict[int, Array] = dict(zip(method.inputs, inputs, strict=True))
    known |= {one.id: one.data for one in method.values.values() if one.role is Role.CONSTANT and one.data is not None}

    def content(operand: Any) -> Any:
        if isinstance(operand, tuple):
            return tuple(map(content, operand))
        return known[operand.id] if isinstance(operand, Value) else operand

    for instruction in method.instructions:
        node = node_of(method, instruction, library.ops[instruction.op])
        meaning = _meaning(instruction, library)
        with np.errstate(all="ignore"):
            made = meaning(*(content(node[one.name]) for one in node.schema.parameters))
        results = made if isinstance(made, tuple) else (made,)
        for out, result in zip(instruction.outs, results, strict=False):
            known[out] = np.asarray(result).astype(method.values[out].spec.dtype.numpy)
    return tuple(known[out] for out in method.outputs)


def _meaning(instruction: Instruction, library: Library) -> Callable[..., Any]:
    """What the operator does in numpy; of the board-neutral form of int8, what the kernels at its borders do."""
    if instruction.op == DEQUANTIZE_CHANNELS:
        return _dequantised_channels
    kernel = {QUANTIZE: KERNEL_QUANTIZE, DEQUANTIZE: KERNEL_DEQUANTIZE}.get(instruction.op, instruction.op)
    reference = library.ops[kernel].reference
    if reference is None:
        raise ModelError(f"{instruction.op} has no meaning in numpy", where=instruction.where)
    return (lambda *given: reference(*given[:6])) if kernel != instruction.op else reference


def _dequantised_channels(stored: Array, scales: Array, zero_points: Array | None, axis: int, *_: object) -> Array:
    shape = [-1 if dim == axis % stored.ndim else 1 for dim in range(stored.ndim)]
    zeros = 0 if zero_points is None else zero_points.reshape(shape)
    return np.asarray((stored.astype(np.int64) - zeros).astype(np.float32) * scales.astype(np.float32).reshape(shape))


def _terms(method: Method, library: Library) -> int:
    """Float additions on the way, at most."""
    terms = 0
    for instruction in method.instructions:
        op = library.ops[instruction.op]
        if not op.exact:
            terms += max(1, op.sum_length(node_of(method, instruction, op))) if op.sum_length else 1
    return terms
