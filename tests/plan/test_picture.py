"""The picture is well-formed, the same every time, needs nothing beside it, and its boxes lie where the plan says."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from etexport.plan import Buffer, Problem, Region, plan
from etexport.plan.picture import picture
from tests.plan.nets import NETS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", NETS)
def test_every_buffer_is_drawn_to_scale(name: str) -> None:
    problem = NETS[name]().problem()
    solution = plan(problem)
    text = picture(problem, solution)
    assert text == picture(problem, solution)
    root = ElementTree.fromstring(text)
    groups = {group.find(f"{SVG}title").text.split(":")[0]: group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g")}  # type: ignore[union-attr]
    assert set(groups) == {buffer.name for buffer in problem.buffers}
    size_line = next(line for line in root.iter(f"{SVG}line") if line.get("class") == "mp-size")
    boxes = {
        name: {key: float(box.get(key, "")) for key in ("x", "y", "width", "height")} for name, box in groups.items()
    }  # type: ignore[union-attr]
    top = min(box["y"] for box in boxes.values())
    assert abs(top - float(size_line.get("y1", ""))) < 0.2
    bottom = max(box["y"] + box["height"] for box in boxes.values())
    scale = (bottom - top) / solution.size["ram"]
    for buffer in problem.buffers:
        box = boxes[buffer.name]
        assert abs(bottom - box["y"] - (solution.places[buffer.name].offset + buffer.size) * scale) < 1
    # live together, so disjoint on paper too
    for one in problem.buffers:
        for other in problem.buffers:
            together = one.live[0][0] < other.live[0][1] and other.live[0][0] < one.live[0][1]
            if one.name < other.name and together and min(one.size, other.size) * scale > 1:
                a, b = boxes[one.name], boxes[other.name]
                assert a["y"] + a["height"] <= b["y"] + 0.2 or b["y"] + b["height"] <= a["y"] + 0.2


def test_words() -> None:
    buffers = (Buffer("<x> & y", 4096, ((0, 1), (3, 4))), Buffer("out", 2048, ((1, 5),), region="dtcm"))
    problem = Problem(buffers, (Region("ram", 8192), Region("dtcm")))
    solution = replace(plan(problem), bound={"ram": 2048, "dtcm": 2048})
    steps = ["conv", "relu", "a_very_long_name_of_a_step"]
    text = picture(problem, solution, steps=steps, kinds={"out": "output"}, notes={"out": "model.py:7"})
    root = ElementTree.fromstring(text)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles == [
        "<x> & y: 4,096 bytes at 0, step 0 (conv)",
        "<x> & y: 4,096 bytes at 0, step 3",
        "out: 2,048 bytes at 0, steps 1 (relu) to 4\nmodel.py:7",
    ]
    shown = [element.text for element in root.iter(f"{SVG}text")]
    assert "ram: 4,096 of 8,192 bytes, lower bound 2,048, gap 100.0%" in shown
    assert "dtcm: 2,048 bytes, no plan can be smaller" in shown
    assert "lower bound 2,048" in shown and "2,048 bytes = lower bound" in shown
    assert {"output", "activation"} <= set(shown) and "scratch" not in shown
    for word in ("href", "url(", "<script", "@import"):
        assert word not in text
    assert text.count("http") == 1, "the namespace"


def test_nothing_to_draw() -> None:
    problem = Problem(())
    ElementTree.fromstring(picture(problem, plan(problem)))
