"""How an operator of a model is quantised, as the kernel folder that computes it says: which scales its operands and
its result get, and what is known of it where masks, states and channels are followed through a network.

A folder declares `INT8 = [Int8(...)]` beside its `OPS`. Export asks for these by the operator's name and has no list of
its own; how the integers are computed then is a `Rule`. Names are those of the graph that is quantised, which comes
before decomposition: `aten::max_pool2d`, where the kernel is that of `aten::max_pool2d_with_indices.out`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scales(Enum):
    """Which scales operands and result get. An operand comes in the scale that it has, or an observed one; a result's
    is observed."""

    OWN = "own"
    """Each its own."""
    PAIR = "pair"
    """Each its own, of two tensors that are computed with element by element; of one tensor it is a part of a table."""
    LAYER = "layer"
    """Operands input, weight, bias, in this order: weights have a scale for each output channel (`weights`), the bias
    that of the sum."""
    FIRST = "first"
    """The first operand and the result; others, which are parameters, stay real numbers."""
    NORM = "norm"
    """As FIRST, but that nothing lies between it and a layer right before it, of which it becomes a part."""
    SHARED = "shared"
    """The result and the operands of `shares` have one scale: elements are moved, repeated, or the largest among them
    are taken."""
    CHOICE = "choice"
    """Each element of the result is that element of one of the operands, or a number: one scale for all, unless it is
    part of a table."""
    CLAMP = "clamp"
    """The kernel of the operator before it does it by saturating, if that `saturates`; else it is part of a table."""
    PARTS = "parts"
    """PyTorch makes it of other operators, all of which move elements, multiply and add: these are quantised in its
    place."""
    TABLE = "table"
    """Part of a table: element by element. Needs no saying where PyTorch's tag `pointwise` or `Op.elementwise` does."""


class Mask(Enum):
    """What becomes of numbers that stand for minus infinity, as in masks of attention, and of the condition that says
    where they are."""

    MOVED = "moved"
    """The elements of the first operand are moved or repeated."""
    REPEATED = "repeated"
    """They stay where they are, each maybe repeated: the first operand broadcasts to the result."""
    SAME = "same"
    """The result is the first operand."""
    CAST = "cast"
    """The same in another element type."""
    ADDED = "added"
    """self + alpha * other."""
    SUBTRACTED = "subtracted"
    """self - alpha * other."""
    SUBTRACTED_FROM = "subtracted from"
    """other - alpha * self."""
    MULTIPLIED = "multiplied"
    DIVIDED = "divided"
    NEGATED = "negated"
    BOUNDED = "bounded"
    """The larger of the first operand and the second; a third one would be an upper bound."""
    CHOSEN = "chosen"
    """The second operand where the first, a condition, holds, else the third."""
    FILLED = "filled"
    """The third operand where the second, a condition, holds, else the first."""
    INVERTED = "inverted"
    """A condition that holds where the first operand does not."""
    COMPARED = "compared"
    """Whether the first operand is above or below a number, or is not it."""
    EQUAL = "equal"
    """Whether the first operand is a number."""
    SOFTMAX = "softmax"
    """Where masks end: what is masked has no share."""
    SAFE_SOFTMAX = "safe softmax"
    """As SOFTMAX, but a row that is masked whole is 0."""


class State(Enum):
    """What it is on the way from a state to its next value: where little is added at a time, int8's rounding is added
    up too."""

    SUM = "sum"
    """Sums up elements of operands, each multiplied by numbers."""
    ELEMENTS = "elements"
    """Multiplies, bounds or moves elements."""
    TOTAL = "total"
    """Sums up the elements of one operand."""
    PRODUCTS = "products"
    """Weighted sums over many elements: layers and products of matrices."""
    MOVED = "moved"
    """Moves elements between the places of a state, or averages them."""


class Channels(Enum):
    """How channels scale through it: where f(s x) = s f(x) for s > 0, a channel can be made smaller before it and
    larger behind."""

    ALIKE = "alike"
    """Each element of the result scales as the same element of the first operand does."""
    BY_NUMBER = "by number"
    """The same where the second operand is a number."""
    MOVED = "moved"
    """Each element of the result is one of the first operand's."""
    PADDED = "padded"
    """The same, and zeros at the ends of the last dimensions; widths and mode are the operands behind the first."""
    WINDOW = "window"
    """Made of elements along the last `spatial` dimensions."""
    REDUCED = "reduced"
    """Made of elements along the dimensions that the second operand names; the third keeps them."""


@dataclass(frozen=True)
class Weights:
    """`channel_dim` is the dimension of output channels of a layer's weight, 1 of a transposed one. Where the layer has
    an operand `groups`, inputs and outputs are in so many groups. `rows`: channels are the last dimension of input and
    result; else they stand before those of the window."""

    channel_dim: int
    rows: bool = False


@dataclass(frozen=True)
class Int8:
    """What is said of operators that are quantised alike.

    operators   `namespace::name`, with `.overload` where that is not the default one, as `print(overload._schema)`
                shows it
    scales      None: it stays in float, unless it computes element by element
    weights     of a LAYER
    shares      names of the operands of SHARED, each a tensor or a list of them; none: the first
    adds_if     name of an operand with which a SHARED operator does not replace elements but adds to them: then it
                stays in float
    fixed       (scale, zero point) of a result whose range is known
    saturates   its integer kernel does a CLAMP behind it
    mask, state, channels, spatial   see there; None: nothing is known, and nothing is followed through it
    squashes    a network that ends with it is judged by what it reads: of results near 0 and 1 the few doubtful ones
                are all of the noise
    reason      why it stays in float, for the report, whatever the overload
    """

    operators: tuple[str, ...]
    scales: Scales | None = None
    weights: Weights | None = None
    shares: tuple[str, ...] = ()
    adds_if: str = ""
    fixed: tuple[float, int] | None = None
    saturates: bool = False
    mask: Mask | None = None
    state: State | None = None
    channels: Channels | None = None
    spatial: int = 0
    squashes: bool = False
    reason: str = ""


NOTHING_SAID = Int8(())
