"""The figures to beat: `benchmarks/peers.toml`, read and checked."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etexport.resources import root


@dataclass(frozen=True)
class Peer:
    """Another system's figures for the MLPerf Tiny networks; each figure by name: count, count_per_mac, flash, code
    (flash without constants), ram, arena, init_count."""

    name: str
    quantization: str
    core: str
    unit: str
    note: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Best:
    """The fewest instructions a multiply-accumulate that are known, by kind of operator, and how they were reached."""

    core: str
    dtype: str
    per_mac: Mapping[str, float]
    how: str


@functools.cache
def networks() -> Mapping[str, tuple[int, ...]]:
    """The layers of each network that peers ran, as multiply-accumulates in order of execution."""
    return {entry["name"]: tuple(entry["layers"]) for entry in _table()["network"]}


def network_of(layers: Sequence[int]) -> str:
    """Which of them has layers of these multiply-accumulates; empty for another one, whatever it is called."""
    layers = tuple(layers)
    return next((name for name, known in networks().items() if known == layers), "")


@functools.cache
def peers() -> tuple[Peer, ...]:
    return tuple(
        Peer(
            name=entry["name"],
            quantization=entry["quantization"],
            core=entry["core"],
            unit=entry.get("unit", "instructions"),
            note=entry.get("note", ""),
            figures={network: entry[network] for network in networks() if network in entry},
        )
        for entry in _table()["peer"]
    )


@functools.cache
def bests() -> tuple[Best, ...]:
    words = ("core", "dtype", "how")
    return tuple(
        Best(
            entry["core"],
            entry["dtype"],
            {kind: value for kind, value in entry.items() if kind not in words},
            entry["how"],
        )
        for entry in _table()["best"]
    )


def best_per_mac(core: str, dtype: str, kind: str) -> float | None:
    """None where nothing is known for this core, type and kind of operator."""
    for best in bests():
        if best.core == core and best.dtype == dtype:
            return best.per_mac.get(kind)
    return None


def peers_of(core: str, quantization: str, network: str) -> tuple[Peer, ...]:
    return tuple(
        peer for peer in peers() if (peer.core, peer.quantization) == (core, quantization) and network in peer.figures
    )


def goal_of(core: str, quantization: str, network: str) -> Mapping[str, int]:
    """What our image may need at most: count, code, constants, arena, ram_without_link, init_count; empty where nothing
    is asked for."""
    for goal in _table()["goal"]:
        if (goal["core"], goal["quantization"]) == (core, quantization):
            found: Mapping[str, int] = goal.get(network, {})
            return found
    return {}


@functools.cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((root() / "benchmarks" / "peers.toml").read_text(encoding="utf-8"))
