"""A method whose sizes are known at run time, as one schedule: it is specialised for many sizes like any other method,
and what differs between them, numbers of geometries alone, becomes expressions.

So a kernel knows nothing of it. Memory is planned for the largest sizes; a result is packed at its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from etexport.errors import EtError, ModelError
from etexport.kernel import sizes as known
from etexport.kernel.call import Call, Const, Operand, Scratch, Window
from etexport.kernel.library import Library
from etexport.program.draft import Draft
from etexport.program.model import Array, Instruction, Method, Ref, Role, Storage, TensorSpec, Value
from etexport.program.operators import SLICE
from etexport.specialise.formulas import Sizes, Varying, VaryingReal, formula, samples
from etexport.specialise.model import Specialised
from etexport.specialise.schedule import BeginStep, CallStep, NextStep, Schedule, Step

BEYOND = 6
"""At so many sizes a symbol is looked at, at least, and beyond its largest where its range has fewer."""
FAR = (8, 16, 24, 32)
"""Further beyond it for a range that is shorter than the last of these: kernels that take several positions at once
count them by up to 8."""


Neutral = Callable[[Method], Method]
"""The passes, for one choice of sizes."""
ForBoard = Callable[[Method, frozenset[int]], Specialised]
"""The stages behind them; what the handles name runs as code, where it could be an address."""


def over_sizes(method: Method, library: Library, neutral: Neutral, specialise: ForBoard) -> Specialised:
    """The method for all of its sizes. ModelError where they want different code.

    What is an address for one choice of sizes and another one, or none, for another is code for all. Of a constant that
    each choice cuts out of that for the largest sizes, such as a mask, the program cuts it too.

    Where some size is 1 or 0 code may be simpler than for any other: then that of the others serves there too, for its
    loops go round once. Of windowed kernels, which treat ends apart, each number is what it is for that size alone.
    """
    most = tuple(symbol.most for symbol in method.symbols)
    wholly = {most: known.at(method, library, most)}
    for sizes in samples([(symbol.least, symbol.most) for symbol in method.symbols]):
        wholly[sizes] = known.at(method, library, sizes)
    wholly |= _beyond(method, library, most)
    varying = _varying(wholly)
    neutrals = _cut({sizes: neutral(one) for sizes, one in wholly.items()}, most)
    moved = _moved(neutrals, most, library, specialise)
    reference = specialise(neutrals[most], moved)
    seen, edges, simpler = {most: reference}, dict[Sizes, Specialised](), dict[Sizes, Specialised]()
    for sizes, one in neutrals.items():
        if sizes == most:
            continue
        inside = _within(sizes, most)
        try:
            found = specialise(one, moved)
        except EtError:
            if inside:
                raise
            continue
        small = any(wholly[sizes].values[id_].spec.shape[dim] < 2 for id_, dim in varying)
        if _form(found) == _form(reference):
            (edges if small else seen)[sizes] = found
        elif small and inside:
            simpler[sizes] = found
        elif inside:
            raise _apart(method, reference, found, sizes)
    merged = _Merged(method, reference, seen, edges, simpler)
    steps = tuple(merged.step(at, step) for at, step in enumerate(reference.schedule.steps))
    ends = _ends(reference.method)
    shapes_at = {sizes: [one.values[id_].spec.shape for id_ in _ends(one)] for sizes, one in wholly.items()}
    within = [shapes for sizes, shapes in shapes_at.items() if _within(sizes, most)]
    least = {id_: tuple(map(min, zip(*(shapes[at] for shapes in within), strict=True))) for at, id_ in enumerate(ends)}
    whole = replace(merged.method(), symbols=method.symbols, extents=method.extents)
    shapes = {id_: merged.shape({sizes: one[at] for sizes, one in shapes_at.items()}) for at, id_ in enumerate(ends)}
    return replace(reference, method=whole, schedule=Schedule(steps), shapes=shapes, least=least)


def _cut(methods: Mapping[Sizes, Method], most: Sizes) -> dict[Sizes, Method]:
    """Constants that are those for the largest sizes, cut, as slices of these. Where there are any, sizes beyond the
    largest are left out: nothing is there to cut theirs out of."""
    largest = methods[most].values
    inside = {sizes: one for sizes, one in methods.items() if _within(sizes, most)}
    cut: dict[int, Array] = {}
    for id_, value in largest.items():
        every = [one.values.get(id_) for one in inside.values()]

        def varies(dim: int, every: Sequence[Value | None] = every) -> bool:
            return len({one.spec.shape[dim] for one in every if one is not None}) > 1

        if value.role is not Role.CONSTANT or value.data is None or not all(_is_cut(one, value.data) for one in every):
            continue
        if any(one is not None and not _begins(value.data, one.data) for one in every):
            # wider than any cut, else copying the whole would be other code than copying a part
            cut[id_] = np.pad(value.data, [(0, 0), *((0, int(varies(dim))) for dim in range(1, value.data.ndim))])
    if not cut:
        return dict(methods)
    handle = max(one.handle() for one in map(Draft, inside.values()))
    return {sizes: _with_slices(one, cut, handle) for sizes, one in inside.items()}


def _is_cut(value: Value | None, whole: Array) -> bool:
    if value is None or value.data is None or value.data.ndim != whole.ndim or value.data.dtype != whole.dtype:
        return False
    part = whole[tuple(slice(size) for size in value.data.shape)]
    return part.shape == value.data.shape and part.tobytes() == value.data.tobytes()


def _with_slices(method: Method, cut: Mapping[int, Array], handle: int) -> Method:
    """In front of the first instruction that reads it each of these constants is cut to its shape here."""
    draft = Draft(method)
    before: dict[int, list[Instruction]] = {}
    for id_, whole in cut.items():
        old = method.values[id_]
        ref, shape = draft.add_constant(f"{old.name}_whole", whole), whole.shape
        reader = next(one.handle for one in method.instructions if id_ in one.reads)
        for dim, wanted in enumerate(old.spec.shape):
            shape = (*shape[:dim], wanted, *shape[dim + 1 :])
            out = draft.add_value(old.name, TensorSpec(old.spec.dtype, shape))
            made = Instruction(SLICE, (ref, dim, 0, wanted, 1), (out.id,), handle, out.name)
            before.setdefault(reader, []).append(made)
            ref, handle = Ref(out.id), handle + 1
        draft.rename({id_: ref.id})
    draft.rewrite(lambda one: (*before.get(one.handle, ()), one))
    return draft.done()


def _moved(methods: Mapping[Sizes, Method], most: Sizes, library: Library, specialise: ForBoard) -> frozenset[int]:
    """The slices and concatenations that are no address, or not the same one, for all sizes: by their handles."""
    least = min((sizes for sizes in methods if _within(sizes, most) and min(sizes) > 1), default=most)
    moved: frozenset[int] = frozenset()
    while True:
        one, other = (specialise(methods[sizes], moved) for sizes in (most, least))
        apart = {id_ for id_ in methods[most].values if _place(one.method, id_) != _place(other.method, id_)}
        for instruction in reversed(methods[most].instructions):  # a view lies where its operand does
            op = library.find(instruction.op)
            if op is not None and op.lower is None and not apart.isdisjoint(instruction.outs):
                apart.update(instruction.reads[:1])
        more = {
            instruction.handle
            for instruction in methods[most].instructions
            if (op := library.find(instruction.op)) is not None
            and (op.alias is not None or op.parts is not None)
            and not apart.isdisjoint((*instruction.reads, *instruction.outs))
        }
        if more <= moved:
            return moved
        moved |= more


def _place(method: Method, id_: int) -> tuple[Role, Storage | None] | None:
    value = method.values.get(id_)
    return None if value is None else (value.role, value.storage)


def _ends(method: Method) -> tuple[int, ...]:
    return (*method.inputs, *method.outputs)


def _within(sizes: Sizes, most: Sizes) -> bool:
    return all(size <= end for size, end in zip(sizes, most, strict=True))


def _beyond(method: Method, library: Library, most: Sizes) -> dict[Sizes, Method]:
    found: dict[Sizes, Method] = {}
    for at, symbol in enumerate(method.symbols):
        span = symbol.most - max(symbol.least, 2)
        for more in (*range(1, BEYOND - span + 1), *(FAR if span < FAR[-1] else ())):
            sizes = (*most[:at], symbol.most + more, *most[at + 1 :])
            try:
                found[sizes] = known.at(method, library, sizes)
            except EtError:
                break  # another size holds it
    return found


def _varying(wholly: Mapping[Sizes, Method]) -> list[tuple[int, int]]:
    """Value and dimension of every size that is not always the same."""
    first, *others = wholly.values()
    return [
        (value.id, dim)
        for value in first.values.values()
        for dim, size in enumerate(value.spec.shape)
        if any(other.values[value.id].spec.shape[dim] != size for other in others)
    ]


def _apart(method: Method, one: Specialised, other: Specialised, sizes: Sizes) -> ModelError:
    told = ", ".join(f"{symbol.name} = {size}" for symbol, size in zip(method.symbols, sizes, strict=True))
    pairs = zip(_form(one)[1], _form(other)[1], strict=False)
    at = next((at for at, (a, b) in enumerate(pairs) if a != b), -1)
    where = one.schedule.steps[at].instruction.where
    return ModelError(
        f"for {told} it is other code than for the largest sizes",
        where=where,
        hint="a range that begins above that size, or one size alone",
    )


def _form(one: Specialised) -> tuple[object, tuple[object, ...]]:
    """All that must be the same for all sizes."""
    values = tuple(
        (value.id, value.role, value.spec.dtype, len(value.spec.shape), value.spec.dim_order, value.storage)
        for value in one.method.values.values()
        if value.role is not Role.CONSTANT
    )
    number = {id_: f"constant {at}" for at, id_ in enumerate(_constants(one))}
    return values, tuple(_step_form(step, number) for step in one.schedule.steps)


def _constants(one: Specialised) -> tuple[int, ...]:
    """In the order in which they are read: one that is a part of another for most sizes, and all of it for the largest,
    has not the same id for all."""
    reads = (id_ for step in one.schedule.steps for id_ in step.instruction.reads)
    return tuple(dict.fromkeys(id_ for id_ in reads if one.method.values[id_].role is Role.CONSTANT))


def _step_form(step: Step, constants: Mapping[int, str]) -> object:
    instruction = step.instruction
    reads = tuple(constants.get(id_, id_) for id_ in instruction.reads)
    plain = (type(step).__name__, instruction.op, instruction.outs, reads, instruction.epilogue)
    if not isinstance(step, CallStep):
        return (*plain, *(getattr(step, one.name) for one in fields(step) if one.name not in ("instruction", "rounds")))
    values = (getattr(one, "value", None) for one in step.call.operands)
    operands = tuple(None if id_ is None else constants.get(id_, id_) for id_ in values)
    return (*plain, operands, _kernel_form(step.call), tuple(step.call.multiples.items()))


def _kernel_form(call: Call) -> object:
    """The kernel, and what of its window no number of a geometry says."""
    operands = tuple((type(one).__name__, getattr(one, "name", "")) for one in call.operands)
    window = call.window
    swept = (
        (window.padded, window.kernel, window.dilation, window.rows_per_call, window.stride, window.pad)
        if window is not None
        else ()
    )
    geometry = tuple((name, np.shape(value)) for name, value in call.geometry.items())
    return call.function, call.header, operands, swept, geometry


Calls = Mapping[Sizes, Call]


class _Merged:
    """The steps of one form, seen at many sizes: `seen` where none is small, `edges` where one is; `simpler` are those
    of another form."""

    def __init__(
        self,
        method: Method,
        reference: Specialised,
        seen: Mapping[Sizes, Specialised],
        edges: Mapping[Sizes, Specialised],
        simpler: Mapping[Sizes, Specialised],
    ) -> None:
        self.whole = method
        self.names = [symbol.name for symbol in method.symbols]
        self.reference, self.seen, self.edges, self.simpler = reference, seen, edges, simpler
        self.most = tuple(symbol.most for symbol in method.symbols)

    def of(self, seen: Mapping[Sizes, int], edges: Mapping[Sizes, int], what: str, where: str) -> int:
        """A number, as an expression where it depends on sizes."""
        largest = seen[self.most]
        if all(value == largest for value in (*seen.values(), *edges.values())):
            return largest
        text = formula(seen, edges, self.names)
        if text is None:
            told = ", ".join(f"{value} for {self.told(sizes)}" for sizes, value in list(seen.items())[:4])
            raise ModelError(
                f"{what} follows no formula of {', '.join(self.names)}: {told}",
                where=where,
                hint="fix that size, or write the layer with others",
            )
        return Varying(largest, text)

    def told(self, sizes: Sizes) -> str:
        return ", ".join(f"{name} = {size}" for name, size in zip(self.names, sizes, strict=True))

    def step(self, at: int, step: Step) -> Step:
        if isinstance(step, (BeginStep, NextStep)):
            seen = {sizes: _rounds(one, at) for sizes, one in self.seen.items()}
            edges = {sizes: _rounds(one, at) for sizes, one in self.edges.items()}
            return replace(step, rounds=self.of(seen, edges, "its number of rounds", step.instruction.where))
        if not isinstance(step, CallStep):
            return step
        where, call = step.instruction.where, step.call
        calls = {sizes: _call_at(one, at) for sizes, one in self.seen.items()}
        few = {sizes: _call_at(one, at) for sizes, one in self.edges.items()}
        for sizes, one in self.simpler.items() if call.window is not None else ():
            alone = next(
                (own.call for own in one.calls.values() if own.instruction.handle == step.instruction.handle), None
            )
            if alone is None or _kernel_form(alone) != _kernel_form(call):
                raise _apart(self.whole, self.reference, one, sizes)
            few[sizes] = alone
        every = [*calls.values(), *few.values()]

        def number(ask: Callable[[Call], Any], what: str) -> Any:
            return self.number(
                {sizes: ask(one) for sizes, one in calls.items()},
                {sizes: ask(one) for sizes, one in few.items()},
                what,
                where,
            )

        def asked(name: str, place: int | None = None) -> Callable[[Call], Any]:
            return lambda one: one.geometry[name] if place is None else one.geometry[name][place]  # type: ignore[index]

        geometry = {
            name: tuple(number(asked(name, place), f"{name}[{place}]") for place in range(len(value)))
            if isinstance(value, tuple)
            else number(asked(name), name)
            for name, value in call.geometry.items()
        }
        operands = tuple(
            self.operand([one.operands[i] for one in every], operand, where) for i, operand in enumerate(call.operands)
        )
        window = None if call.window is None else self.window(call.window, every, number, where)
        overlaps = _same([one.overlaps for one in every])
        # which way to sweep is asked where both ways are known
        upward = _same([one.overlaps_upward for one in every]) if overlaps else {}
        new = replace(call, geometry=geometry, operands=operands, window=window)
        return replace(step, call=replace(new, overlaps=overlaps, overlaps_upward=upward))

    def number(self, seen: Mapping[Sizes, Any], edges: Mapping[Sizes, Any], what: str, where: str) -> Any:
        value, every = seen[self.most], [*seen.values(), *edges.values()]
        if all(other == value for other in every):
            return value
        if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
            return self.of(seen, edges, what, where)
        if all(map(_is_inverse, every)):
            counts, few = ({sizes: round(1 / float(one)) for sizes, one in these.items()} for these in (seen, edges))
            count = self.of(counts, few, what, where)
            assert isinstance(count, Varying), where
            return VaryingReal(float(value), f"1.0f / static_cast<float>({count.text})")
        raise ModelError(f"{what} depends on a size and is no whole number", where=where, hint="fix that size")

    def window(
        self, window: Window, every: Sequence[Call], number: Callable[[Callable[[Call], Any], str], Any], where: str
    ) -> Window:
        def asked(name: str) -> Callable[[Call], Any]:
            return lambda one: getattr(one.window, name)

        batch, in_rows, in_row, out_rows, out_row = (
            number(asked(name), name) for name in ("batch", "in_rows", "in_row", "out_rows", "out_row")
        )
        for other in every:
            assert other.window is not None, where
            shorter = min(len(other.window.firsts), len(window.firsts))
            if other.window.firsts[:shorter] != window.firsts[:shorter]:
                raise ModelError("the places of its windows depend on a size", where=where, hint="fix that size")
        return replace(window, batch=batch, in_rows=in_rows, in_row=in_row, out_rows=out_rows, out_row=out_row)

    def operand(self, others: Sequence[Operand], operand: Operand, where: str) -> Operand:
        if isinstance(operand, Scratch):
            elements = max(one.elements for one in others if isinstance(one, Scratch))
            return replace(operand, elements=elements)
        if isinstance(operand, Const):
            for other in others:
                assert isinstance(other, Const), where
                if not _begins(operand.data, other.data):
                    raise ModelError(
                        f"its {operand.name} depends on a size",
                        where=where,
                        hint="fix that size: it is stored in flash",
                    )
        return operand

    def shape(self, shapes: Mapping[Sizes, tuple[int, ...]]) -> tuple[int, ...]:
        """The sizes of an input or output as expressions."""
        return tuple(
            self.of({sizes: shape[dim] for sizes, shape in shapes.items()}, {}, f"size {dim}", self.whole.name)
            for dim in range(len(shapes[self.most]))
        )

    def method(self) -> Method:
        """As it is for the largest sizes: memory of that size holds what any other sizes need."""
        method, constants = self.reference.method, _constants(self.reference)
        for sizes, one in {**self.seen, **self.edges}.items():
            same = dict(zip(constants, _constants(one), strict=True))
            for value in method.values.values():
                if (other := one.method.values.get(same.get(value.id, value.id))) is None:
                    continue  # a constant that no step reads
                if _within(sizes, self.most) and other.spec.nbytes > value.spec.nbytes:
                    raise ModelError(
                        f"{value.name} is {other.spec} for {self.told(sizes)}, and {value.spec} for the largest sizes",
                        where=value.name,
                        hint="memory is planned for the largest sizes: no result may grow as one shrinks",
                    )
                self.fits(value, other)
        return method

    def fits(self, value: Value, other: Value) -> None:
        if value.role is Role.CONSTANT and not _begins(value.data, other.data):
            raise ModelError(
                f"{value.name} holds what depends on a size",
                where=value.name,
                hint="compute it from an input, or fix that size",
            )


def _call_at(one: Specialised, at: int) -> Call:
    step = one.schedule.steps[at]
    assert isinstance(step, CallStep), step.instruction.where
    return step.call


def _rounds(one: Specialised, at: int) -> int:
    step = one.schedule.steps[at]
    assert isinstance(step, (BeginStep, NextStep)), step.instruction.where
    return step.rounds


def _same(others: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """How far a result may lie over an operand, where that is no question of sizes."""
    first, *rest = others
    return {id_: distance for id_, distance in first.items() if all(one.get(id_) == distance for one in rest)}


def _is_inverse(number: object) -> bool:
    """Of a whole number, as float32 has it."""
    if not isinstance(number, (float, np.floating)) or not 0 < number <= 1:
        return False
    return bool(np.float32(1) / np.float32(round(1 / number)) == np.float32(number))


def _begins(one: Array | None, other: Array | None) -> bool:
    """Whether the shorter content is the beginning of the longer one, so that the longer serves for both."""
    if one is None or other is None:
        return one is other
    a, b = one.tobytes(), other.tobytes()
    return one.dtype == other.dtype and (a.startswith(b) or b.startswith(a))
