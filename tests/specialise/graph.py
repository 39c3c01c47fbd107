"""Programs written by hand, a line an instruction; result specs are inferred by the operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from etexport.kernel.library import Library
from etexport.kernel.node import node_of
from etexport.program.model import Array, DType, Instruction, Method, Program, Ref, Role, Source, TensorSpec, Value


class Graph:
    def __init__(self, library: Library) -> None:
        self.library = library
        self.values: dict[int, Value] = {}
        self.instructions: list[Instruction] = []
        self.inputs: list[int] = []

    def _add(self, name: str, spec: TensorSpec, role: Role, data: Array | None = None) -> Ref:
        value = Value(len(self.values), name, spec, role, data)
        self.values[value.id] = value
        return Ref(value.id)

    def input(self, *shape: int, order: tuple[int, ...] = (), dtype: DType = DType.FLOAT32) -> Ref:
        ref = self._add(f"input_{len(self.inputs)}", TensorSpec(dtype, shape, order), Role.INPUT)
        self.inputs.append(ref.id)
        return ref

    def constant(self, data: Array) -> Ref:
        data = np.asarray(data)
        return self._add(
            f"constant_{len(self.values)}", TensorSpec(DType.of_numpy(data.dtype), data.shape), Role.CONSTANT, data
        )

    def weight(self, *shape: int, seed: int = 0) -> Ref:
        return self.constant(np.random.default_rng(seed + len(self.values)).normal(size=shape).astype(np.float32))

    def state(self, data: Array) -> Ref:
        return self._add(
            f"state_{len(self.values)}", TensorSpec(DType.of_numpy(data.dtype), data.shape), Role.STATE, data
        )

    def call(self, op: str, *args: Any, name: str = "", line: int = 0, into: Ref | None = None) -> Ref:
        """Adds the instruction; its first result."""
        found = self.library.find(op)
        assert found is not None, op
        handle = len(self.instructions)
        source = Source("model.py", line) if line else None
        # the number of results is known from the schema; their specs from `infer`, which looks at the operands only
        outs: list[int] = []
        for index in range(len(found.signature.outs)):
            spec = TensorSpec(DType.FLOAT32, ())
            outs.append(
                into.id
                if into
                else self._add(f"{name or op.split('::')[1].split('.')[0]}_{handle}_{index}", spec, Role.ACTIVATION).id
            )
        instruction = Instruction(op, args, tuple(outs), handle, name, source)
        method = Method("forward", self.values, (instruction,), (), ())
        for out, (dtype, shape) in zip(outs, found.infer(node_of(method, instruction, found)), strict=True):
            if not into:
                old = self.values[out]
                self.values[out] = Value(out, old.name, TensorSpec(dtype, tuple(shape)), Role.ACTIVATION)
        self.instructions.append(instruction)
        return Ref(outs[0])

    def conv(
        self,
        x: Ref,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        pad: int = 1,
        name: str = "",
        line: int = 0,
    ) -> Ref:
        channels = self.values[x.id].spec.shape[1]
        args = (x, self.weight(out_channels, channels, kernel, kernel), self.weight(out_channels))
        return self.call(
            "aten::convolution.out", *args, (stride, stride), (pad, pad), (1, 1), False, (0, 0), 1, name=name, line=line
        )

    def relu(self, x: Ref, **how: Any) -> Ref:
        return self.call("aten::relu.out", x, **how)

    def add(self, a: Ref, b: Ref, **how: Any) -> Ref:
        return self.call("aten::add.out", a, b, 1, **how)

    def view(self, x: Ref, *shape: int) -> Ref:
        return self.call("aten::view_copy.out", x, shape)

    def linear(self, x: Ref, features: int, **how: Any) -> Ref:
        inner = self.values[x.id].spec.shape[-1]
        return self.call("aten::addmm.out", self.weight(features), x, self.weight(inner, features), 1, 1, **how)

    def program(self, *outputs: Ref) -> Program:
        for output in outputs:
            value = self.values[output.id]
            if value.role is Role.ACTIVATION:
                self.values[output.id] = Value(value.id, value.name, value.spec, Role.OUTPUT)
        method = Method(
            "forward", self.values, tuple(self.instructions), tuple(self.inputs), tuple(output.id for output in outputs)
        )
        return Program((method,))


def evaluate(
    program: Program, library: Library, inputs: list[Array], states: dict[int, Array] | None = None
) -> list[Array]:
    """Outputs by the operators' numpy meanings, value by value: no memory, no layout. `states` as `interpret` has
    them."""
    method = program.method()
    known: dict[int, Any] = {value.id: value.data for value in method.values.values() if value.data is not None}
    known.update(zip(method.inputs, inputs, strict=True))
    known.update(states or {})

    def resolve(arg: Any) -> Any:
        if isinstance(arg, Ref):
            return known[arg.id]
        return tuple(resolve(item) for item in arg) if isinstance(arg, tuple) else arg

    for instruction in method.instructions:
        op = library.find(instruction.op)
        assert op is not None and op.reference is not None, instruction.op
        results = op.reference(*(resolve(arg) for arg in instruction.args))
        for out, result in zip(instruction.outs, results if isinstance(results, tuple) else (results,), strict=False):
            known[out] = result
    if states is not None:
        states.update({id: known[id] for id in program.states})
    return [known[out] for out in method.outputs]
