"""What a kernel is told of an instruction's operands."""

from __future__ import annotations

import numpy as np
import pytest

from etexport.errors import ModelError
from etexport.kernel.call import Const, Read, Target
from etexport.kernel.library import load_ops
from etexport.kernel.node import node_of
from etexport.program.model import Method
from tests.specialise.graph import Graph


@pytest.mark.parametrize("operand", ["state", "constant"])
def test_what_a_state_holds_at_first_is_no_weight(operand: str) -> None:
    library = load_ops()
    graph = Graph(library)
    x, weight = graph.input(2, 3), getattr(graph, operand)(np.eye(3, dtype=np.float32))
    graph.call("aten::mm.out", x, weight)
    method = Method("forward", graph.values, tuple(graph.instructions), (x.id,), (graph.instructions[0].outs[0],))
    op = library.ops["aten::mm.out"]
    node = node_of(method, graph.instructions[0], op)
    assert (node["mat2"].data is None) == (operand == "state")
    assert op.lower is not None
    operands = op.lower(node, Target()).operands
    assert (Read(weight.id) in operands) == (operand == "state")
    assert any(isinstance(one, Const) and one.data is not None for one in operands) == (operand == "constant")


def test_a_convolution_with_a_state_for_a_weight_is_refused() -> None:
    library = load_ops()
    graph = Graph(library)
    x, weight = graph.input(1, 1, 4, 4), graph.state(np.ones((1, 1, 3, 3), np.float32))
    graph.call("aten::relu.out", x)
    op = library.ops["aten::convolution.out"]
    with pytest.raises(ModelError, match="weight"):
        graph.call("aten::convolution.out", x, weight, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)
        method = Method("forward", graph.values, tuple(graph.instructions), (x.id,), ())
        assert op.lower is not None
        op.lower(node_of(method, graph.instructions[-1], op), Target())
