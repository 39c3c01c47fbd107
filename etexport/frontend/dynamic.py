"""Sizes known at run time, as a script says them and torch.export has understood them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from etexport.errors import ModelError
from etexport.frontend.script import Script
from etexport.program.model import Extent, Symbol
from etexport.program.names import Names, is_identifier

BOUND = 'memory is planned for the largest: Dim("n", min=1, max=64)'


class Known:
    """The symbols of an exported program, by torch's own symbol, and the places of inputs where they are sizes."""

    def __init__(self, exported: ExportedProgram, script: Script, inputs: Sequence[fx.Node]) -> None:
        self.symbols: dict[Any, Symbol] = {}
        self.extents: list[Extent] = []
        self.where = f"{script.path}:{script.shapes_line}" if script.shapes_line else str(script.path)
        named = _dim_names(script.dynamic_shapes)
        names = Names()
        for at, node in enumerate(inputs):
            meta = node.meta.get("val")
            for dim, size in enumerate(meta.shape if isinstance(meta, Tensor) else ()):
                if isinstance(size, torch.SymInt):
                    self._take(exported, node, at, dim, size.node.expr, named.get((at, dim), ""), names)

    def _take(
        self, exported: ExportedProgram, node: fx.Node, at: int, dim: int, expr: Any, name: str, names: Names
    ) -> None:
        if len(expr.free_symbols) != 1:
            raise ModelError(f"size {dim} of {node.name} is {expr}, of several others", where=self.where)
        (symbol,) = expr.free_symbols
        if symbol not in self.symbols:
            told = names.new(name if is_identifier(name) else f"size_{len(self.symbols)}")
            bounds = exported.range_constraints[symbol]
            if not bounds.upper.is_Integer:
                raise ModelError(
                    f"{told}, size {dim} of {node.name}, has no largest value", where=self.where, hint=BOUND
                )
            self.symbols[symbol] = Symbol(told, max(int(bounds.lower), 0), int(bounds.upper))
        offset = int(expr.subs(symbol, 0))
        factor = int(expr.subs(symbol, 1)) - offset
        if (expr - (factor * symbol + offset)).expand() != 0 or factor < 1:
            raise ModelError(
                f"size {dim} of {node.name} is {expr}", where=self.where, hint="a multiple of a Dim, and a number more"
            )
        self.extents.append(Extent(at, dim, list(self.symbols).index(symbol), factor, offset))

    def largest(self, size: torch.SymInt) -> int | None:
        """What the size is where all symbols are the largest; None for one that depends on what a tensor holds."""
        expr = size.node.expr
        if not expr.free_symbols <= self.symbols.keys():
            return None
        return int(expr.subs({symbol: known.most for symbol, known in self.symbols.items()}))


def _dim_names(given: Any) -> dict[tuple[int, int], str]:
    """What the script calls the size at each place."""
    found = {}
    inputs = given.values() if isinstance(given, Mapping) else given if isinstance(given, (tuple, list)) else ()
    for at, dims in enumerate(inputs):
        pairs = (
            dims.items() if isinstance(dims, Mapping) else enumerate(dims if isinstance(dims, (tuple, list)) else ())
        )
        for dim, one in pairs:
            name = getattr(getattr(one, "root", one), "__name__", "")
            if isinstance(name, str):
                found[at, int(dim)] = name
    return found
