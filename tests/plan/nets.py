"""Memory problems of the shapes that small networks have: graphs of feature maps in bytes, from a few lines each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from etexport.plan import Buffer, Problem, Region


class Net:
    """Tensors in the order in which they are made; `sizes` in bytes, `reads` the last step that reads each."""

    def __init__(self, bytes_per_element: int = 4) -> None:
        self.width = bytes_per_element
        self.sizes: list[int] = []
        self.made: list[int] = []
        self.last: list[int] = []
        self.step = 0

    def input(self, *shape: int) -> int:
        return self._add(shape, -1)

    def op(self, inputs: Sequence[int], *shape: int) -> int:
        for tensor in inputs:
            self.last[tensor] = self.step
        made = self._add(shape, self.step)
        self.step += 1
        return made

    def _add(self, shape: Sequence[int], step: int) -> int:
        size = self.width
        for extent in shape:
            size *= extent
        self.sizes.append(size)
        self.made.append(step)
        self.last.append(step)
        return len(self.sizes) - 1

    def problem(self, align: int = 16, capacity: int | None = None) -> Problem:
        """A tensor lives from the step that makes it to the last that reads it; inputs from the start, what nobody
        reads to the end."""
        buffers = []
        for number, size in enumerate(self.sizes):
            first = max(self.made[number], 0)
            read = self.last[number] > self.made[number]
            last = self.last[number] + 1 if read else self.step
            buffers.append(Buffer(f"t{number}", size, ((first, max(last, first + 1)),), align))
        return Problem(tuple(buffers), (Region("ram", capacity),))


def autoencoder() -> Net:
    net = Net()
    x = net.input(640)
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        x = net.op([x], width)
    return net


def ds_cnn() -> Net:
    net = Net()
    x = net.op([net.input(49, 10)], 25, 5, 64)
    for _ in range(8):
        x = net.op([x], 25, 5, 64)
    net.op([net.op([x], 64)], 12)
    return net


def resnet_8() -> Net:
    net = Net()
    x = net.op([net.input(32, 32, 3)], 32, 32, 16)
    for side, channels in ((32, 16), (16, 32), (8, 64)):
        y = net.op([x], side, side, channels)
        y = net.op([y], side, side, channels)
        if channels != 16:
            x = net.op([x], side, side, channels)
        x = net.op([x, y], side, side, channels)
    net.op([net.op([x], 64)], 10)
    return net


def mobilenet_v1(side: int = 96, quarter: int = 1) -> Net:
    net = Net()
    x = net.input(side, side, 3)
    side //= 2
    x = net.op([x], side, side, 8 * quarter)
    plan = [(1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), *[(1, 128)] * 5, (2, 256), (1, 256)]
    channels = 8 * quarter
    for stride, out in plan:
        side //= stride
        x = net.op([x], side, side, channels)
        channels = out * quarter
        x = net.op([x], side, side, channels)
    net.op([net.op([x], channels)], 2)
    return net


def mobilenet_v2(side: int = 96) -> Net:
    net = Net()
    x = net.input(side, side, 3)
    side //= 2
    channels = 16
    x = net.op([x], side, side, channels)
    stages = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1))
    for expand, out, repeat, stride in stages:
        for block in range(repeat):
            step = stride if block == 0 else 1
            wide = net.op([x], side, side, channels * expand) if expand > 1 else x
            side //= step
            y = net.op([net.op([wide], side, side, channels * expand)], side, side, out)
            x = net.op([x, y], side, side, out) if step == 1 and channels == out else y
            channels = out
    x = net.op([x], side, side, 1280)
    net.op([net.op([x], 1280)], 1000)
    return net


def inception(blocks: int = 4, side: int = 64) -> Net:
    net = Net()
    x = net.input(side, side, 3)
    side //= 2
    x = net.op([x], side, side, 32)
    for block in range(blocks):
        branches = [net.op([x], side, side, 16)]
        branches.append(net.op([net.op([x], side, side, 24)], side, side, 32))
        branches.append(net.op([net.op([net.op([x], side, side, 8)], side, side, 16)], side, side, 16))
        branches.append(net.op([net.op([x], side, side, 32)], side, side, 16))
        x = net.op(branches, side, side, 80)
        if block % 2:
            side //= 2
            x = net.op([x], side, side, 40)
    net.op([net.op([x], 40)], 10)
    return net


def darts(cells: int = 8, side: int = 32, channels: int = 16, seed: int = 3) -> Net:
    """Cells of four nodes that each add two separable paths from earlier nodes, and concatenate: many tensors that live
    long."""
    chance = random.Random(seed)
    net = Net(1)
    before = last = net.op([net.input(side, side, 3)], side, side, channels)
    for cell in range(cells):
        if cell in (cells // 3, 2 * cells // 3):
            side //= 2
            channels *= 2
            before, last = net.op([before], side, side, channels), net.op([last], side, side, channels)
        a, b = net.op([before], side, side, channels), net.op([last], side, side, channels)
        nodes = [a, b]
        for _ in range(4):
            paths = []
            for source in chance.sample(nodes, 2):
                x = net.op([source], side, side, channels)
                paths.append(
                    net.op([net.op([x], side, side, channels)], side, side, channels) if chance.random() < 0.6 else x
                )
            nodes.append(net.op(paths, side, side, channels))
        before, last = last, net.op(nodes[2:], side, side, 4 * channels)
    net.op([net.op([last], 4 * channels)], 10)
    return net


def random_wired(nodes: int = 16, seed: int = 5) -> Net:
    chance = random.Random(seed)
    net = Net()
    made = [net.op([net.input(64, 64, 3)], 32, 32, 16)]
    for _ in range(nodes):
        inputs = chance.sample(made, min(len(made), chance.choice((1, 1, 2, 3))))
        total = net.op(inputs, 32, 32, 16) if len(inputs) > 1 else inputs[0]
        made.append(net.op([net.op([total], 32, 32, 16)], 32, 32, 16))
    loose = [tensor for tensor in made if net.last[tensor] == net.made[tensor]]
    net.op([net.op(loose, 32, 32, 16)], 10)
    return net


NETS: dict[str, Callable[[], Net]] = {
    "autoencoder": autoencoder,
    "ds_cnn": ds_cnn,
    "resnet_8": resnet_8,
    "mobilenet_v1_96": mobilenet_v1,
    "mobilenet_v2_96": mobilenet_v2,
    "mobilenet_v2_224": lambda: mobilenet_v2(224),
    "inception_4": inception,
    "darts_3": lambda: darts(3),
    "darts_8": darts,
    "darts_12": lambda: darts(12, seed=7),
    "random_wired_16": random_wired,
    "random_wired_48": lambda: random_wired(48),
}
