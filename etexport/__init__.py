"""etexport: a PyTorch model script in, a verified microcontroller firmware out. In Python: `build`, `Board` and `sweep`
(docs/python.md, docs/sweep.md)."""

__version__ = "0.1.0"
__all__ = ["Board", "Built", "Plan", "bisect", "build", "compare", "sweep"]


def __getattr__(name: str) -> object:
    """What notebooks use, loaded when it is asked for. By name: SCons takes what a file imports for what each of its
    users needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    rooms = {"Plan": "etexport.fleet", "sweep": "etexport.fleet", "bisect": "etexport.stages.bisect"}
    room = rooms.get(name, "etexport.stages.notebook")
    return getattr(importlib.import_module(room), name)
