"""What the folder of a delegate declares, `BACKEND = Backend(...)` in its `backend.py`: which operators it takes, what
it compiles a part of a program to, and the call of C++ that runs that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etexport.kernel.call import Call, Target
from etexport.kernel.node import Node
from etexport.kernel.op import Layout
from etexport.program.model import Array, Delegate, Method

Options = Mapping[str, Any]
"""What a script says behind a delegate's name."""


@dataclass(frozen=True)
class Claims:
    """Handles of instructions: each of `groups` is for one call, and is taken apart where that cannot be, because what
    stays outside would have to run in its midst. `refused`: why others are not taken."""

    groups: Sequence[Collection[int]]
    refused: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """What is written to the `.pte`: `blob` goes to the board's flash, `specs` (at most a few words) do not."""

    blob: bytes
    specs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Backend:
    """One delegate.

    id          what a `.pte` calls it, in ExecuTorch the name of the class that lowers to it
    claim       which of the nodes of a stretch without jumps it takes, at export; None where it only runs what others
                have compiled, as `compile`
    compile     the blob of one group: a method without jumps, whose inputs and outputs are those of the call and whose
                constants are all that it reads beside. Everything lies in logical order
    run         the call, on the target side: `node` has the operands, the `Delegate` the blob. The blob is
                `Const("blob", ...)`, what it needs while it runs is `Scratch`; `Call.overlaps`, `multiples` and `macs`
                are as those of a kernel
    reference   the results in numpy from the blob alone, by which each call is checked; None: they are computed by the
                operators that were compiled, which then travel in the `.pte` (they take nothing on the board)
    sum_length  how many terms are added up for one result (`Op.sum_length`), where there is a reference
    exact       results must be those of the reference bit for bit
    layout      CONTIGUOUS or CHANNELS_LAST: which dim order the call takes
    """

    id: str
    run: Callable[[Node, Delegate, Target], Call]
    claim: Callable[[Sequence[Node], Options], Claims] | None = None
    compile: Callable[[Method, Options], Compiled] | None = None
    reference: Callable[..., Any] | None = None
    sum_length: Callable[[Delegate], int] | None = None
    exact: bool = False
    layout: Layout = Layout.CONTIGUOUS
    file: Path = Path()
    """The `backend.py`; filled in when it is loaded."""

    @property
    def family(self) -> str:
        """The folder's name, by which scripts ask for it."""
        return self.file.parent.name


__all__ = ["Array", "Backend", "Claims", "Compiled", "Delegate", "Options"]
