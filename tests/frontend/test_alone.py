"""What one script does to its process is over when it ends; what it does to itself is said."""

from __future__ import annotations

import os
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from etexport.errors import ModelError
from etexport.frontend import export, export_many, train
from tests.frontend.scripts import exported, script

PLAIN = """\
import torch
from torch import nn
def model():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
def example_inputs():
    return (torch.randn(1, 4),)
"""

LEAKY = """\
import builtins, logging, os, random, sys, types, warnings
import numpy as np
import torch
from torch import nn
os.chdir(os.path.dirname(os.path.abspath(__file__)))
os.environ["ETEXPORT_TEST"] = "left behind"
sys.path.insert(0, "/nowhere")
sys.modules["json"] = types.ModuleType("json")
sys.setrecursionlimit(5000)
warnings.simplefilter("error")
logging.disable(logging.CRITICAL)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(2)
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
torch.relu = torch.nn.functional.relu = nn.ReLU.forward = lambda *x: x[-1] * 0
torch.manual_seed = np.random.seed = random.seed = lambda *x: None
builtins.open = None
nn.Linear.reset_parameters = lambda self: nn.init.zeros_(self.weight)
def model():
    return nn.Linear(4, 2).float()
def example_inputs():
    return (torch.ones(1, 4, dtype=torch.float32),)
"""


def test_a_script_changes_nothing_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaky, plain = script(tmp_path / "a", LEAKY), script(tmp_path / "b", PLAIN)
    monkeypatch.chdir(tmp_path)
    export(plain, Path("before.pte"))
    state = (
        os.environ.copy(),
        list(sys.path),
        sys.modules["json"],
        sys.getrecursionlimit(),
        list(warnings.filters),
        torch.relu,
        open,
    )
    numbers = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    export_many([(leaky.relative_to(tmp_path), Path("leaky.pte")), (plain.relative_to(tmp_path), Path("after.pte"))])
    assert (
        os.environ.copy(),
        list(sys.path),
        sys.modules["json"],
        sys.getrecursionlimit(),
        list(warnings.filters),
        torch.relu,
        open,
    ) == state
    assert numbers == (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    assert torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled() and Path.cwd() == tmp_path
    for suffix in (".pte", ".npz"):
        assert Path("before").with_suffix(suffix).read_bytes() == Path("after").with_suffix(suffix).read_bytes()
    assert Path("leaky.pte").is_file(), "written where it was asked for, whatever the script takes for its folder"


def test_a_script_that_changes_its_folder_reads_there_and_errs_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import os, torch\nos.chdir('/')\ndef model(): return torch.nn.Linear(4, 2)\ndef example_inputs(): return "
        "torch.zeros(1, 3)\n"
    )
    script(tmp_path / "net", text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        export(Path("net/model.py"), Path("out.pte"))
    assert caught.value.where == "net/model.py"


WORDLESS = "class E(Exception):\n    def __str__(self): raise KeyError('no words')\n"
ENDINGS = {
    "sys.exit(0)": "SystemExit: 0",
    "raise BaseException('all of it')": "BaseException: all of it",
    "raise E()": "E",
    "raise MemoryError()": "MemoryError",
    "raise GeneratorExit()": "GeneratorExit",
    "(lambda f: f(f))(lambda f: f(f))": "RecursionError: maximum recursion depth",
    "raise ExceptionGroup('two', [ValueError(1), ValueError(2)])": "two",
    "os._exit(0)": "ended the process, with exit code 0",
    "os.kill(os.getpid(), 9)": "was ended by SIGKILL",
}
PLACES = ("import", "model", "example_inputs", "samples", "forward", "train")


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_ends_a_script_is_an_error_with_its_line(tmp_path: Path, ending: str) -> None:
    """At import, in each of the functions, and in forward()."""
    for place in PLACES:
        lines = ["import os, sys, torch", *WORDLESS.splitlines(), f"def end(): {ending}", "class Net(torch.nn.Linear):"]
        lines += [f"    def forward(self, x): {'end(); ' * (place == 'forward')}return super().forward(x)"]
        for name, result in (
            ("model", "Net(4, 2)"),
            ("example_inputs", "torch.zeros(1, 4)"),
            ("samples", "torch.zeros(3, 4)"),
            ("train", "{}"),
        ):
            lines.append(f"def {name}(): {'end(); ' * (place == name)}return {result}")
        lines += ["end()"] * (place == "import")
        path = script(tmp_path / place, "\n".join(lines))
        with pytest.raises(ModelError) as caught:
            (train if place == "train" else export)(path, tmp_path / "out.pte")
        assert ENDINGS[ending] in caught.value.what
        assert caught.value.where.startswith(str(path)) and (
            "process" in caught.value.what or "SIG" in caught.value.what or ":4" in caught.value.where
        )
        assert not (tmp_path / "out.pte").exists()


HEAD = """\
import itertools, random, time, types
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
COUNT, STEPS, GENERATOR = [0], itertools.count(), np.random.default_rng(3)
class Box: n = 0
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.calls, self.memory, self.box = nn.Linear(4, 4), 0, torch.zeros(1, 4), Box()
        self.drop = nn.Dropout()
        self.log = []
    def forward(self, x, cache={}):
        y = self.fc(x)
"""
FORGETFUL = {
    "COUNT[0] += 1; return y + COUNT[0]": "COUNT[0] of model.py changes",
    "return y + next(STEPS)": "STEPS of model.py changes",
    "self.calls += 1; return y * self.calls": "calls changes",
    "self.calls ^= 1; return y * (1 + self.calls)": "calls changes",
    "self.calls = (self.calls + 1) % 4; return y * (1 + self.calls)": "calls changes",
    "self.calls = (self.calls + 1) % 5; return y * (1 + self.calls)": "calls changes",
    "y = y + self.calls; self.calls = 1; return y": "calls changes",
    "self.memory = 0.5 * self.memory + y; return self.memory": "memory changes",
    "self.memory += y; return self.memory * 2": "memory changes",
    "self.box.n += 1; return y + self.box.n": "box.n changes",
    "Box.n += 1; return y + Box.n": "n of",
    "cache['n'] = cache.get('n', 0) + 1; return y + cache['n']": "changes",
    "return F.dropout(y, 0.5, training=True)": "draws random numbers",
    "self.drop.train(); return self.drop(y)": "drop is in training mode",
    "return y + torch.randn(1, 4)": "randn draws random numbers",
    "return y + random.random()": "Python's random state",
    "return y + np.random.rand()": "numpy's random state",
    "return y + GENERATOR.random()": "GENERATOR of model.py",
    "return y + time.perf_counter_ns() % 1_000_003": "other numbers",  # float32 sees no microsecond beside hours
    "self.fc.weight.data.add_(0.25); return y": "fc.weight",
}


@pytest.mark.parametrize("body", FORGETFUL)
def test_a_model_that_does_not_agree_with_itself_is_refused(tmp_path: Path, body: str) -> None:
    path = script(
        tmp_path, f"{HEAD}        {body}\ndef model(): return Net()\ndef example_inputs(): return torch.ones(1, 4)\n"
    )
    with pytest.raises(ModelError) as caught:
        export(path, tmp_path / "out.pte")
    assert "other numbers" in caught.value.what and FORGETFUL[body] in caught.value.what
    assert caught.value.where.startswith(str(path)) and caught.value.where[-2:] in ("14", "16")


def test_what_changes_and_matters_not_is_allowed(tmp_path: Path) -> None:
    """A count of calls that nothing reads, a table made at the first call, a buffer: none changes what the same inputs
    give."""
    body = """\
        self.calls += 1
        if 'table' not in cache: cache['table'] = torch.arange(4.0)
        self.log.append(x.shape)
        self.sum += y.detach()
        return y + cache['table'] + self.sum
"""
    init = HEAD.replace("self.log = []", "self.log = []; self.register_buffer('sum', torch.zeros(1, 4))")
    exported(
        script(tmp_path, f"{init}{body}def model(): return Net()\ndef example_inputs(): return torch.ones(1, 4)\n")
    )
