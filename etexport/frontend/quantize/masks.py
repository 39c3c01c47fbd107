"""Masked softmax, whatever way the mask came about, as one form: softmax(where(keep, scores, LOWEST)).

A tensor in which numbers stand for minus infinity has no scale. So each is followed from where it comes about, by
whatever operator, as two: the ordinary numbers, and a condition that says where these are. Where the two arrive at a
softmax they are put together again: then the scores alone have a scale, and integer kernels leave out what is masked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import optimization_hint
from torch.fx.node import map_arg

from etexport.frontend.quantize.declared import int8_of
from etexport.frontend.quantize.observe import APART, INFINITE, LONE, Change, Seen, observed
from etexport.frontend.quantize.parts import keep_source, varying
from etexport.kernel.int8 import Mask

aten = torch.ops.aten

LOWEST = torch.finfo(torch.float32).min
"""What masked scores are: finite, so that a row that is masked whole gives equal shares and not NaN."""

NEGLIGIBLE = 20.0
"""What lies so far below another score has no share in a softmax."""

FEW = 8
"""So many samples show what stands for infinity."""

_SOFTMAX = (Mask.SOFTMAX, Mask.SAFE_SOFTMAX)
_MOVES = (Mask.MOVED, Mask.REPEATED)
_SAME = (Mask.SAME, Mask.CAST)
_SUMS = (Mask.ADDED, Mask.SUBTRACTED, Mask.SUBTRACTED_FROM)


@dataclass(frozen=True)
class _Split:
    """`rest` where `keep` is `keeps`; elsewhere what stands for infinity: `fill` (one of them, the nearest), added to
    `rest` or, if `assigned`, in its place. `rest` lies between `low` and `high`, and is a number where it is the same
    everywhere.
    """

    rest: Node | float
    keep: Node
    keeps: bool
    fill: float
    assigned: bool
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Masks:
    """What was seen of each tensor of the graph; `filled`: what masked softmaxes read, by the scores that are in it
    where they are not masked; `infinite`: other tensors in which numbers stand for infinity."""

    seen: Mapping[Node, Seen]
    filled: Mapping[Node, Node]
    infinite: Set[Node]

    def positive(self, node: Node) -> tuple[float, float] | None:
        """(the largest, the largest of the others) where what is large in `node`, or in what it reads, is nothing but
        positive numbers: these mask nothing as a rule, but stand in another unit (pascals beside kelvins)."""
        found: dict[Node, Seen] = {}
        open_, known = [node, *node.all_input_nodes], {node}
        while open_:
            one = open_.pop()
            if (seen := self.seen.get(one)) is not None and (seen.minus or seen.plus):
                found[one] = seen
            elif one in self.infinite:
                open_ += [more for more in one.all_input_nodes if more not in known]
                known.update(one.all_input_nodes)
        if not found or any(seen.minus or math.inf in seen.plus for seen in found.values()):
            return None
        seen = max(found.values(), key=lambda one: one.plus[-1])
        return seen.plus[-1], max(abs(seen.low), abs(seen.high)) if seen.low <= seen.high else 0.0


def masked(model: GraphModule, samples: Sequence[Sequence[Tensor]]) -> Masks:
    """Puts each masked softmax of the graph into the form above; `samples` as for `observed`."""
    _without_writes(model)
    if not any(int8_of(node).mask in _SOFTMAX for node in model.graph.nodes):
        samples = samples[:FEW]  # no ranges are asked for
    found = observed(model, samples)
    splits = _Splits(model, _with_masks(found, model, samples), found)
    for node in list(model.graph.nodes):
        splits.follow(node)
    model.graph.eliminate_dead_code()
    model.recompile()
    if splits.filled:
        found = observed(model, samples)
    infinite = {node for node, split in splits.split.items() if abs(split.fill) >= INFINITE}
    for seen in (found, splits.seen):
        infinite.update(node for node, one in seen.items() if one.minus or one.plus)
    return Masks(found, splits.filled, infinite - set(splits.filled))


def drawn(model: GraphModule) -> list[tuple[Tensor, ...]]:
    """Inputs for a graph of which no data are at hand: what its masks are does not depend on them as a rule. Sizes that
    are not known yet are those of the example that the graph was captured with."""
    generator = torch.Generator().manual_seed(0)
    examples = [node.meta["val"] for node in model.graph.nodes if node.op == "placeholder"]

    def one(example: Tensor) -> Tensor:
        random = torch.randn([optimization_hint(size) for size in example.shape], generator=generator)
        return random.to(example.dtype) if example.is_floating_point() else (random > 0).to(example.dtype)

    return [tuple(one(example) for example in examples) for _ in range(2)]


def _without_writes(model: GraphModule) -> None:
    """What writes over a value that nothing else reads gives a new one."""
    for node in model.graph.nodes:
        name = str(getattr(node.target, "overloadpacket", ""))
        source = (
            node.args[0]
            if node.op == "call_function" and name.endswith("_") and not name.endswith("__") and node.args
            else None
        )
        plain = getattr(aten, name.removeprefix("aten.")[:-1], None)
        overload = getattr(node.target, "_overloadname", "")
        if (
            isinstance(source, Node)
            and source.op == "call_function"
            and len(source.users) == 1
            and hasattr(plain, overload)
        ):
            node.target = getattr(plain, overload)


# ---- what the data at hand do not mask -------------------------------------------------------------------------------


def _with_masks(seen: Mapping[Node, Seen], model: GraphModule, samples: Sequence[Sequence[Tensor]]) -> dict[Node, Seen]:
    """What was seen of the samples; and what stands for infinity where conditions, and inputs that hold nothing but 0
    and 1, are otherwise, for calibration data may have no padding."""
    found = dict(seen)
    inputs = [node for node in model.graph.nodes if node.op == "placeholder"]
    contents = {node: [one[at] for one in samples] for at, node in enumerate(inputs)}
    unused = {node for node in inputs if node in found and not any(bool(one.any()) for one in contents[node])}
    switches = {node for node in inputs if _are_switches(contents[node])} - unused
    varies = varying(model.graph)
    for share in (0.0, 0.5, 1.0):
        try:
            others = observed(model, samples[:1], _changed(switches, unused, varies, share))
        except Exception:  # the network need not take what no data hold
            continue
        for node, other in others.items():
            if node in found and (other.minus or other.plus or other.lone is not None):
                found[node] = _joined(found[node], other)
    return found


def _joined(seen: Seen, other: Seen) -> Seen:
    lone = other.lone if seen.lone is None and seen.low > seen.high else seen.lone
    if (
        seen.lone is None
        and other.lone is not None
        and other.lone < seen.low
        and APART * max(abs(seen.low), abs(seen.high)) <= -other.lone
    ):
        lone = other.lone
    return replace(seen, minus=seen.minus or other.minus, plus=seen.plus or other.plus, lone=lone)


def _are_switches(contents: Sequence[Tensor]) -> bool:
    return all(one.dtype is torch.bool or bool(((one == 0) | (one == 1)).all()) for one in contents)


def _changed(switches: Collection[Node], unused: Collection[Node], varies: Collection[Node], share: float) -> Change:
    """Conditions and switches that hold for this share of the elements; inputs of nothing but zeros hold minus infinity
    elsewhere."""
    generator = torch.Generator().manual_seed(0)

    def change(node: Node, x: Tensor) -> Tensor:
        is_condition = x.dtype is torch.bool and node.op == "call_function" and int8_of(node).mask not in _MOVES
        if node not in switches and node not in unused and not (is_condition and node in varies):
            return x
        holds = torch.rand(x.shape, generator=generator) < share
        return torch.where(holds, 0.0, -math.inf).to(x.dtype) if node in unused else holds.to(x.dtype)

    return change


# ---- the two parts of a tensor with a mask ---------------------------------------------------------------------------


class _Splits:
    """`split` grows as the nodes are gone through in their order; what is made for one that no softmax reads is dead
    code."""

    def __init__(self, model: GraphModule, seen: Mapping[Node, Seen], found: Mapping[Node, Seen]) -> None:
        self.model = model
        self.seen = seen
        self.found = found
        """What was seen of the data, as they are."""
        self.split: dict[Node, _Split] = {}
        self.varies = varying(model.graph)
        self.filled: dict[Node, Node] = {}
        nodes = list(model.graph.nodes)
        last = max((at for at, node in enumerate(nodes) if node.op == "placeholder"), default=-1)
        self.early = set(nodes[: last + 1])
        self.place = nodes[last + 1]
        """Before which node what is made is put: never between the inputs."""

    def follow(self, node: Node) -> None:
        if node not in self.early:
            self.place = node if int8_of(node).mask in _SOFTMAX else node.next
        if int8_of(node).mask in _SOFTMAX:
            self._softmax(node)
        elif int8_of(node).mask in (Mask.COMPARED, Mask.EQUAL):
            self._comparison(node)
        elif node in self.seen and node.op != "output":
            found = self._derived(node) if node.op == "call_function" else None
            found = found or self._from_values(node)
            if found is not None:
                self.split[node] = found

    def _emit(self, at: Node, target: Any, *args: Any, **kwargs: Any) -> Node:
        with self.model.graph.inserting_before(self.place):
            made = self.model.graph.call_function(target, args, kwargs)
        with at.meta["val"].fake_mode:
            made.meta["val"] = target(*map_arg(args, lambda one: one.meta["val"]), **kwargs)
        keep_source(made, at)
        return made

    # ---- where masks begin -------------------------------------------------------------------------------------------

    def _occurs(self, node: Node) -> bool:
        """Whether the data themselves show what stands for infinity there."""
        found = self.found.get(node)
        return found is not None and bool(found.minus or found.plus)

    def _fill(self, arg: Any) -> float | None:
        """The number that stands for minus or plus infinity, if every element of the operand is such a one."""
        if isinstance(arg, Node):
            seen = self.seen.get(arg)
            if seen is None or (seen.low <= seen.high and seen.lone != seen.high):
                return None
            numbers = (*seen.minus, *seen.plus, *(() if seen.lone is None else (seen.lone,)))
            return numbers[-1] if len(numbers) == 1 else None
        return float(arg) if isinstance(arg, (int, float)) and not LONE < arg < INFINITE else None

    def _from_values(self, node: Node) -> _Split | None:
        """By comparing with a number between those that stand for infinity and the others; what is ordinary keeps its
        number."""
        seen = self.seen[node]
        below = seen.minus or (() if seen.lone is None else (seen.lone,))
        if bool(below) == bool(seen.plus) or self._fill(node) is not None:
            return None
        sign = -1.0 if below else 1.0
        fill = max(below) if below else min(seen.plus)
        ordinary = (seen.low, seen.high)
        if seen.lone is not None and below == (seen.lone,) and seen.low == seen.lone:
            ordinary = (-abs(seen.lone) / APART, abs(seen.lone) / APART)
        nearest = max(abs(one) for one in ordinary) if ordinary[0] <= ordinary[1] else 0.0
        bound = sign * max(abs(fill) / 4 if math.isfinite(fill) else INFINITE / 4, nearest * 2)
        keep, keeps = self._condition(node, node, bound, above=below != ())
        if ordinary[0] == ordinary[1] and seen.lone is None:
            rest: Node | float = ordinary[0]
        else:
            rest = self._chosen(node, keep, keeps, node, 0.0)
        return _Split(rest, keep, keeps, fill, False, *ordinary)

    def _chosen(self, at: Node, keep: Node, keeps: bool, x: Any, other: Any) -> Node:
        """x where `keep` is `keeps`, else a number."""
        return self._emit(
            at, *((aten.where.ScalarOther, keep, x, other) if keeps else (aten.where.ScalarSelf, keep, other, x))
        )

    def _condition(self, at: Node, x: Node, bound: float, *, above: bool) -> tuple[Node, bool]:
        """Whether x lies above (or below) the bound, asked as near to the inputs as can be: (condition, what it says
        then)."""
        mask, args = int8_of(x).mask, x.args
        if x.op == "call_function" and x in self.varies and args and isinstance(args[0], Node):
            source = args[0]
            number = self._number(args[1]) if len(args) == 2 and not x.kwargs else None
            kept, same = source.meta["val"], x.meta["val"]
            if not isinstance(kept, Tensor):
                return self._compared(at, x, bound, above=above)
            if mask in _SAME and (kept.dtype == same.dtype or not kept.is_floating_point()):
                return self._condition(at, source, bound, above=above)
            if mask in _MOVES:
                keep, keeps = self._condition(at, source, bound, above=above)
                return self._moved(at, x, keep), keeps
            number = None if kept.shape != same.shape else number
            if number is not None and number != 0 and mask is Mask.MULTIPLIED:
                return self._condition(at, source, bound / number, above=above == (number > 0))
            if number is not None and number != 0 and mask is Mask.DIVIDED:
                return self._condition(at, source, bound * number, above=above == (number > 0))
            if number is not None and mask is Mask.SUBTRACTED_FROM:
                return self._condition(at, source, number - bound, above=not above)
            if number is not None and mask is Mask.ADDED:
                return self._condition(at, source, bound - number, above=above)
            if number is not None and mask is Mask.SUBTRACTED:
                return self._condition(at, source, bound + number, above=above)
            if mask is Mask.NEGATED:
                return self._condition(at, source, -bound, above=not above)
            first = self._number(source) if len(args) == 2 and not x.kwargs and source not in self.varies else None
            # number - x, number * x
            if first is not None and isinstance(args[1], Node) and args[1].meta["val"].shape == same.shape:
                if mask is Mask.SUBTRACTED:
                    return self._condition(at, args[1], first - bound, above=not above)
                if mask is Mask.MULTIPLIED and first != 0:
                    return self._condition(at, args[1], bound / first, above=above == (first > 0))
                if mask is Mask.ADDED:
                    return self._condition(at, args[1], bound - first, above=above)
        return self._compared(at, x, bound, above=above)

    def _compared(self, at: Node, x: Node, bound: float, *, above: bool) -> tuple[Node, bool]:
        value = x.meta["val"]
        if value.dtype is torch.bool and 0 <= bound < 1:
            return (x, above) if int8_of(x).mask is not Mask.INVERTED else (x.args[0], not above)  # type: ignore[return-value]
        if not value.is_floating_point():  # whole numbers are compared with one
            return self._emit(
                at, *((aten.gt.Scalar, x, math.floor(bound)) if above else (aten.lt.Scalar, x, math.ceil(bound)))
            ), True
        return self._emit(at, aten.gt.Scalar if above else aten.lt.Scalar, x, bound), True

    def _number(self, arg: Any) -> float | None:
        """A number that the graph holds."""
        if isinstance(arg, (int, float)):
            return float(arg)
        if (
            not isinstance(arg, Node)
            or arg in self.varies
            or not isinstance(arg.meta.get("val"), Tensor)
            or arg.meta["val"].numel() != 1
        ):
            return None
        seen = self.seen.get(arg)
        if seen is None:
            return None
        return seen.low if seen.low == seen.high else self._fill(arg)

    def _moved(self, at: Node, move: Node, x: Node) -> Node:
        return self._emit(at, move.target, x, *move.args[1:], **move.kwargs)

    def _whole(self, at: Node, x: Node, like: Node) -> Node:
        shape = like.meta["val"].shape
        return x if x.meta["val"].shape == shape else self._emit(at, aten.expand.default, x, list(shape))

    def _comparison(self, node: Node) -> None:
        """x == 0, where x is something with a mask: only what is not masked can be; and what is whole numbers is
        compared as such."""
        x, number = node.args[:2]
        split = self.split.get(x) if isinstance(x, Node) else None
        if (
            isinstance(number, (int, float))
            and abs(number) < INFINITE
            and split is not None
            and int8_of(node).mask is Mask.EQUAL
        ):
            if not isinstance(split.rest, Node):
                same = self._emit(
                    node, aten.full.default, list(split.keep.meta["val"].shape), split.rest == number, dtype=torch.bool
                )
            else:
                same = self._emit(node, aten.eq.Scalar, split.rest, number)
                self._comparison(same)
            keep, _ = self._both(node, (same, True), (split.keep, split.keeps))
            node.replace_all_uses_with(self._whole(node, keep, node))
            return
        source = x.args[0] if isinstance(x, Node) and int8_of(x).mask is Mask.CAST else None
        value = source.meta["val"] if isinstance(source, Node) else None
        if (
            isinstance(value, Tensor)
            and isinstance(number, (int, float))
            and float(number).is_integer()
            and _is_whole(value)
        ):
            node.args = (source, int(number))

    # ---- how they go on ----------------------------------------------------------------------------------------------

    def _derived(self, node: Node) -> _Split | None:
        mask, args = int8_of(node).mask, node.args
        if mask is Mask.FILLED:
            return self._choice(node, args[1], args[2], args[0])
        if mask is Mask.CHOSEN:
            return self._choice(node, *args)
        if mask in _SUMS:
            return self._sum(node)
        first = args[0] if args else None
        split = self.split.get(first) if isinstance(first, Node) else None
        if mask in (Mask.MULTIPLIED, Mask.DIVIDED):
            return self._scaled(node)
        if split is None:
            return None
        assert isinstance(first, Node)
        if mask is Mask.REPEATED or (mask in _SAME and node.meta["val"].dtype == first.meta["val"].dtype):
            return split  # the parts are repeated where something reads them
        if mask is Mask.MOVED:
            rest = (
                split.rest
                if not isinstance(split.rest, Node)
                else self._moved(node, node, self._whole(node, split.rest, first))
            )
            return replace(split, rest=rest, keep=self._moved(node, node, self._whole(node, split.keep, first)))
        if mask is Mask.BOUNDED and split.fill < 0:
            bound = self._number(args[1]) if len(args) > 1 else None
            upper = len(args) > 2 and args[2] is not None
            if bound is not None and not upper and (bound <= -INFINITE or bound < split.low - NEGLIGIBLE):
                return replace(split, assigned=split.assigned or bound >= split.fill, fill=max(split.fill, bound))
        return None

    def _choice(self, node: Node, condition: Any, x: Any, other: Any) -> _Split | None:
        """x where the condition holds, else the other."""
        sides = [(x, True), (other, False)]
        for (side, holds), (kept, _) in (sides, sides[::-1]):
            fill = self._fill(side)
            if fill is None or (not isinstance(kept, Node) and self._fill(kept) is not None):
                continue
            before = self.split.get(kept) if isinstance(kept, Node) else None
            if before is None:
                low, high = self._range(kept)
                rest = low if low == high and kept not in self.varies else kept
                return _Split(rest, condition, not holds, fill, True, low, high)
            if (before.fill < 0) != (fill < 0):
                return None
            keep, keeps = self._both(node, (condition, not holds), (before.keep, before.keeps))
            return replace(before, keep=keep, keeps=keeps, assigned=True, fill=min(before.fill, fill, key=abs))
        return None

    def _both(self, at: Node, one: tuple[Node, bool], other: tuple[Node, bool]) -> tuple[Node, bool]:
        """The condition that both say what is given with them."""
        if one == other:
            return one
        if one[1] == other[1]:
            return self._emit(
                at, aten.logical_and.default if one[1] else aten.logical_or.default, one[0], other[0]
            ), one[1]
        yes, no = (one[0], other[0]) if one[1] else (other[0], one[0])
        return self._emit(at, aten.logical_and.default, yes, self._emit(at, aten.logical_not.default, no)), True

    def _range(self, x: Any) -> tuple[float, float]:
        if isinstance(x, Node):
            split, seen = self.split.get(x), self.seen.get(x)
            if split is not None:
                return split.low, split.high
            return (seen.low, seen.high) if seen is not None else (-math.inf, math.inf)
        return float(x), float(x)

    def _sum(self, node: Node) -> _Split | None:
        """a + alpha * b, a - alpha * b, and b - alpha * a for rsub."""
        x, y, *more = node.args
        alpha = float(node.kwargs.get("alpha", more[0] if more else 1))  # type: ignore[arg-type]
        first, second = 1.0, alpha
        if int8_of(node).mask is Mask.SUBTRACTED:
            second = -alpha
        elif int8_of(node).mask is Mask.SUBTRACTED_FROM:
            first, second = -alpha, 1.0
        one, other = (self._times(node, side, by) for side, by in ((x, first), (y, second)))
        if one is None and other is None:
            return None
        if one is not None and other is not None and (one.fill < 0) != (other.fill < 0):
            # the maximum of what is masked, say, is only taken for a mask where that leaves nothing
            one, other = (
                None if isinstance(side, Node) and not self._occurs(side) else split
                for side, split in ((x, one), (y, other))
            )
            if (one is None) == (other is None):
                return None
        if one is not None and other is not None:
            keep, keeps = self._both(node, (one.keep, one.keeps), (other.keep, other.keeps))
            fill = min(one.fill, other.fill, key=abs)
            rest = self._added(node, one.rest, other.rest)
            return _Split(
                rest, keep, keeps, fill, one.assigned and other.assigned, one.low + other.low, one.high + other.high
            )
        split = one or other
        assert split is not None
        plain, by = (y, second) if one is not None else (x, first)
        low, high = sorted(bound * by for bound in self._range(plain))
        if self._fill(plain) is not None or low > high:
            return None
        rest = self._added(node, split.rest, self._multiplied(node, plain, by))
        return replace(split, rest=rest, low=split.low + low, high=split.high + high)

    def _added(self, at: Node, x: Any, y: Any) -> Any:
        if not isinstance(x, Node) and not isinstance(y, Node):
            return x + y
        if not isinstance(x, Node):
            x, y = y, x
        if not isinstance(y, Node):
            return x if y == 0 else self._emit(at, aten.add.Tensor, x, y)
        return self._emit(at, aten.add.Tensor, x, y)

    def _multiplied(self, at: Node, x: Any, by: float) -> Any:
        if by == 1:
            return x
        return self._emit(at, aten.mul.Tensor, x, by) if isinstance(x, Node) else x * by

    def _times(self, at: Node, x: Any, by: float) -> _Split | None:
        split = self.split.get(x) if isinstance(x, Node) else None
        if split is None or by == 0:
            return None
        low, high = sorted((split.low * by, split.high * by))
        return replace(split, rest=self._multiplied(at, split.rest, by), fill=split.fill * by, low=low, high=high)

    def _scaled(self, node: Node) -> _Split | None:
        x, by = node.args[:2]
        multiplies = int8_of(node).mask is Mask.MULTIPLIED
        if isinstance(by, Node) and by in self.split and multiplies:
            x, by = by, x
        number = self._number(by)
        if number is None or number == 0 or abs(number) >= INFINITE or len(node.args) > 2 or node.kwargs:
            return None
        return self._times(node, x, number if multiplies else 1 / number)

    # ---- where they end ----------------------------------------------------------------------------------------------

    def _softmax(self, node: Node) -> None:
        x, dim, *_ = node.args
        assert isinstance(x, Node) and isinstance(dim, int)
        if int8_of(x).mask is Mask.SUBTRACTED and len(x.args) == 2 and not x.kwargs and _is_same_for_row(x, dim):
            # as written to keep exp in bounds; the same number off everywhere changes no softmax
            whole = x.args[0]
            assert isinstance(whole, Node)
            node.replace_input_with(x, whole)
            x = whole
        split = self.split.get(x)
        is_safe = int8_of(node).mask is Mask.SAFE_SOFTMAX
        if split is None or split.fill > 0 or not isinstance(split.rest, Node):
            if is_safe and not (x in self.seen and self.seen[x].minus):
                node.target = aten.softmax.int  # no row is masked whole
            return
        largest = split.fill if split.assigned else split.fill + split.high
        if not largest - split.low < -NEGLIGIBLE and not math.isinf(split.fill):
            return
        rest = self._whole(node, split.rest, x)
        keep, keeps = split.keep, split.keeps
        if not split.assigned and _survives(split):
            along = dim if dim < 0 else dim - x.meta["val"].dim()
            keep, keeps = self._unless_whole(node, keep, keeps, along)
        filled = self._chosen(node, keep, keeps, rest, LOWEST)
        node.replace_input_with(x, filled)
        self.filled[filled] = rest
        if is_safe:
            node.target = aten.softmax.int
        if is_safe and math.isinf(split.fill):
            self.place = node.next
            readers = list(node.users)
            zero = self._chosen(node, keep, keeps, node, 0.0)
            for reader in readers:
                reader.replace_input_with(node, zero)

    def _unless_whole(self, at: Node, keep: Node, keeps: bool, dim: int) -> tuple[Node, bool]:
        """With a row that is masked whole taken for one that is not masked: to add the same number everywhere changes
        no softmax."""
        if not keeps:
            keep = self._emit(at, aten.logical_not.default, keep)
        shape = keep.meta["val"].shape
        if len(shape) < -dim:
            keep = self._emit(at, aten.view.default, keep, [1] * (-dim - len(shape)) + list(shape))
        none = self._emit(at, aten.logical_not.default, self._emit(at, aten.any.dim, keep, dim, True))
        return self._emit(at, aten.logical_or.default, keep, none), True


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() and value.dtype is not torch.bool


def _is_same_for_row(difference: Node, dim: int) -> bool:
    """Whether what is subtracted has one number for all that a softmax along `dim` adds up."""
    whole, row = (one.meta["val"] if isinstance(one, Node) else None for one in difference.args)
    if not isinstance(whole, Tensor) or not isinstance(row, Tensor) or whole.shape != difference.meta["val"].shape:
        return False
    along = (dim if dim < 0 else dim - whole.dim()) + row.dim()
    return along < 0 or row.shape[along] == 1


def _survives(split: _Split) -> bool:
    """Whether float32 still tells the scores apart when the number for minus infinity is added to them."""
    return abs(split.fill) * 2**-24 < split.high - split.low
