"""The build graph: what is built again, what is not, and what a person is told."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Built, copied, scons

from etexport.alone import alone_in
from tests import pages
from tests.installed import Installed
from tests.test_alone import HOLD

Build = Callable[..., Built]


def test_nothing_to_do_does_nothing_quickly(house: Path, build: Build) -> None:
    """In processor time, and against a start of SCons that does nothing: whatever the machine and its load
    (docs/build.md has seconds)."""

    def least(run: Callable[[], Built]) -> float:
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert run().verbs() == []
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    start = least(lambda: scons(house, "--version"))
    assert least(lambda: build("report")) < 4 * start, start


def test_a_changed_planner_plans_again_and_says_so(house: Path, build: Build) -> None:
    planner = house / "etexport/plan/first_fit.py"
    planner.write_text(planner.read_text(encoding="utf-8") + "# A remark.\n", encoding="utf-8")
    done = build("--debug=explain", "report")
    assert done.code == 0 and set(done.verbs()) == {"EXPORT", "GENERATE", "REPORT"}, "nothing is compiled or run"
    assert re.search(r"linear-float32/program.h' because `what etexport generate runs' changed", done.text), done.text


def test_every_stage_left_its_file(house: Path) -> None:
    assert {path.name for path in (house / "build/model/linear-float32").iterdir()} == {"model.pte", "model.npz"}
    made = {path.name for path in (house / "build/host/linear-float32").iterdir()}
    wanted = (
        "program.cpp program.h binding.cpp constants.S constants.bin memory.json obj firmware.elf firmware.bin "
        "firmware.hex firmware.map"
    )
    assert set(wanted.split()) | {"run.json", "outputs.npz", "wire.log", "report.json", "report.html"} <= made
    assert not list((house / "build").rglob("*.part"))


def test_a_changed_comment_in_a_kernel_compiles_and_runs_nothing(house: Path, build: Build) -> None:
    included = re.findall(
        r'#include "(\w+/\w+\.h)"', (house / "build/host/linear-float32/program.cpp").read_text(encoding="utf-8")
    )
    header = next(house / "kernels" / name for name in included if not name.startswith("et/"))
    image = (house / "build/host/linear-float32/firmware.bin").read_bytes()
    text = header.read_text(encoding="utf-8")
    header.write_text(text.replace("#pragma once", "#pragma once\n// One more line.", 1), encoding="utf-8")
    done = build("report")
    assert done.code == 0, done.text
    assert "CXX" in done.verbs() and "LINK" in done.verbs()
    assert not {"EXPORT", "RUN", "PROFILE", "VALIDATE"} & set(done.verbs()), done.text
    assert (house / "build/host/linear-float32/firmware.bin").read_bytes() == image


def test_a_changed_layer_file_builds_the_models_that_import_it(house: Path, build: Build) -> None:
    layers = house / "examples/own_project/wave_layers.py"
    layers.write_text(layers.read_text(encoding="utf-8") + "# A remark.\n", encoding="utf-8")
    done = build("--debug=explain", "report")
    assert done.code == 0, done.text
    assert re.search(
        r"rebuilding `build/model/own_project-float32/model.pte' because `\S*wave_layers.py' changed", done.text
    )
    assert not re.search(r"rebuilding `\S*linear-float32", done.text), done.text
    assert done.verbs() == ["EXPORT"], done.text


def test_scripts_share_one_start_of_torch(house: Path, tmp_path: Path) -> None:
    shutil.rmtree(house / "build/model")
    done = scons(house, "BOARD=host", "MODEL=linear,own_project", "firmware")
    assert done.code == 0 and done.verbs().count("EXPORT") == 1, done.text


def test_a_file_may_be_called_what_its_owner_likes(house: Path) -> None:
    folder = house / "their models"
    folder.mkdir()
    script = (house / "examples/add/model.py").read_text(encoding="utf-8")
    for name in ("x&y (1);.py", "p$q.py"):
        (folder / name).write_text(script, encoding="utf-8")
    done = scons(house, "BOARD=host", "MODEL=their models/x&y (1);.py", "firmware")
    assert done.code == 0 and (house / "build/host/x_y__1__-float32/firmware.bin").exists(), done.text
    done = scons(house, "BOARD=host", "MODEL=their models/p$q.py", "firmware")
    assert done.code == 1 and "error: their models/p$q.py: SCons takes" in done.text, done.text


def test_a_broken_script_is_told_once_and_leaves_no_half_target(house: Path) -> None:
    script = house / "examples/add/model.py"
    good = script.read_text(encoding="utf-8")
    assert scons(house, "BOARD=host", "MODEL=add", "firmware").code == 0
    script.write_text(good + "\nraise RuntimeError('on purpose')\n", encoding="utf-8")
    done = scons(house, "BOARD=host", "MODEL=add", "firmware")
    assert done.code != 0 and "on purpose" in done.text and "Traceback" not in done.text
    assert not list((house / "build/model/add-float32").glob(".*"))
    assert scons(house, "BOARD=host", "MODEL=add", "firmware").code != 0, "the old program passed for the new one"
    script.write_text(good, encoding="utf-8")
    assert scons(house, "BOARD=host", "MODEL=add", "firmware").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demoo"], "nothing is called demoo\n  hint: did you mean demo? known: "),
        (["BORD=host"], "did you mean BOARD?"),
        (["FOO=1"], "known: AT, BACKENDS, BOARD, KERNELS, MODEL, OPTIMIZE, PASSES"),
        (["QUANTIZE=int4"], "int4"),
        (["MODEL=digit", "BOARD=host"], "no model is called digit"),
        (["MODEL=", "BOARD=host"], "no model is called"),
        (["MODEL=linear,./examples/linear/model.py", "BOARD=host"], "two models are called linear"),
        (["BOARD=hots", "MODEL=linear"], "no board is called 'hots'"),
        (["OPTIMIZE=sped"], "sped"),
        (["SAMPLES=abc"], "SAMPLES=abc is no number"),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_one(house: Path, arguments: list[str], said: str) -> None:
    done = scons(house, *arguments, "firmware")
    assert done.code != 0 and said in done.text, done.text
    assert "Traceback" not in done.text


def test_help_explains(house: Path) -> None:
    text = scons(house, "--help").text
    for word in (
        "demo",
        "bench",
        "report",
        "test",
        "compile_commands.json",
        "BOARD:",
        "MODEL:",
        "OPTIMIZE:",
        "linear, own_project",
    ):
        assert word in text


def test_compile_commands(house: Path, build: Build) -> None:
    done = build("compile_commands.json")
    assert done.code == 0, done.text
    entries = json.loads((house / "compile_commands.json").read_text(encoding="utf-8"))
    assert any(entry["file"].endswith("linear-float32/program.cpp") for entry in entries)
    assert any(entry["file"].endswith("firmware/runtime/link.cpp") for entry in entries)


def test_a_path_below_build_is_a_target(house: Path) -> None:
    done = scons(house, "build/host/add-float32/firmware.hex")
    assert done.code == 0 and (house / "build/host/add-float32/firmware.hex").exists(), done.text


def test_size_has_a_folder_of_its_own(house: Path) -> None:
    done = scons(house, "BOARD=host", "MODEL=linear", "OPTIMIZE=size", "firmware")
    assert done.code == 0, done.text
    text = (house / "build/host/linear-float32-size/program.cpp").read_text(encoding="utf-8")
    assert "constexpr const void* kOperands[]" in text, "the steps are a table"


def test_a_path_says_what_for(house: Path) -> None:
    done = scons(house, "build/host/add-float32-size/firmware.bin")
    assert done.code == 0 and (house / "build/host/add-float32-size/firmware.bin").exists(), done.text


def digests(folder: Path) -> dict[str, str]:
    names = (
        "model.pte",
        "program.cpp",
        "memory.json",
        "constants.bin",
        "firmware.bin",
        "firmware.elf",
        "firmware.hex",
        "firmware.map",
    )
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.name in names and path.parent.name == "linear-float32"
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def with_cache(folder: Path, cache: Path) -> Path:
    """A house that takes what it would make from there, and leaves there what it made."""
    copied(folder, ("linear",))
    with (folder / "SConstruct").open("a", encoding="utf-8") as file:
        file.write(f"\nCacheDir({str(cache)!r})\n")
    return folder


@pytest.fixture(scope="module")
def filling(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A house that made everything itself, for an empty cache."""
    folder = with_cache(tmp_path_factory.mktemp("filling") / "a", cache)
    done = scons(folder, "BOARD=host", "MODEL=linear", "firmware")
    assert done.code == 0 and {"EXPORT", "CXX", "LINK"} <= set(done.verbs()), done.text
    return folder


def test_two_folders_give_the_same_bytes(filling: Path, tmp_path: Path) -> None:
    """The second has no cache to take anything from; then all that it made is removed."""
    second = copied(tmp_path / "quite_another", ("linear",))
    assert scons(second, "BOARD=host", "MODEL=linear", "firmware").code == 0
    ours, theirs = digests(filling / "build"), digests(second / "build")
    assert len(ours) == 8 and ours == theirs
    assert scons(second, "BOARD=host", "MODEL=linear", "-c").code == 0
    left = [path for path in (second / "build").rglob("*") if path.is_file() and path.parent.name != "boards"]
    assert not left


def test_a_cache_brings_everything_back_in_another_folder(filling: Path, cache: Path, tmp_path: Path) -> None:
    another = with_cache(tmp_path / "quite_another", cache)
    done = scons(another, "BOARD=host", "MODEL=linear", "firmware")
    assert done.code == 0 and done.verbs() == [], done.text
    assert "Retrieved `build/host/linear-float32/firmware.elf' from cache" in done.text
    assert (another / "build/host/linear-float32/obj/program.su").exists()
    assert digests(another / "build") == digests(filling / "build")


def test_a_project_of_ones_own_takes_three_lines(installed: Installed, tmp_path: Path) -> None:
    """With the package that pip installed."""
    shutil.copytree(
        ROOT / "examples/own_project",
        tmp_path / "mine",
        ignore=shutil.ignore_patterns("__pycache__", "build", ".scons*"),
    )
    script = tmp_path / "mine" / "SConstruct"
    lines = [
        line for line in script.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")
    ]
    assert len(lines) == 3
    script.write_text(script.read_text(encoding="utf-8").replace("qemu_mps2_an386", "host"), encoding="utf-8")
    installed.run("scons", cwd=tmp_path / "mine")
    report = json.loads((tmp_path / "mine/build/host/mine-float32/report.json").read_text(encoding="utf-8"))
    assert report["compare"]["mismatched"] == 0 and report["compare"]["samples"] == 24


def test_a_program_of_somebody_else_is_compared_with_the_host_board(house: Path, tmp_path: Path) -> None:
    """Its name is an example's too, which must not be built in its place."""
    assert scons(house, "BOARD=host", "MODEL=linear", "firmware").code == 0
    shutil.copy(house / "build/model/linear-float32/model.pte", tmp_path / "add.pte")
    done = scons(house, "BOARD=host", f"MODEL={tmp_path}/add.pte", "report")
    assert done.code == 0 and "REFERENCE" in done.verbs() and "EXPORT" not in done.verbs(), done.text
    assert "agree with the host board" in done.text
    report = json.loads((house / "build/host/add-float32/report.json").read_text(encoding="utf-8"))
    assert report["compare"]["samples"] == 16 and [op["name"] for op in report["ops"]] != ["add"]


def test_int8_has_a_folder_of_its_own_and_one_start_of_torch(house: Path) -> None:
    """What the command line says, and what the script says, which is read and not run."""
    script = house / "examples/linear/model.py"
    good = script.read_text(encoding="utf-8")
    calibration = "\n\ndef calibration():\n    return [example_inputs()[0] * scale for scale in (0.5, 1.0, -1.0)]\n"
    try:
        script.write_text(f'{good}{calibration}\n\nquantize = "int8"\n', encoding="utf-8")
        done = scons(house, "BOARD=host", "MODEL=linear", "report")
        assert done.code == 0 and done.verbs().count("EXPORT") == 1 and "linear int8 on host" in done.text, done.text
        report = json.loads((house / "build/host/linear-int8/report.json").read_text(encoding="utf-8"))
        assert (
            report["quantization"] == "int8"
            and report["compare"]["tolerance_lsb"] >= 2
            and report["compare"]["mismatched"] == 0
        )
        assert scons(house, "build/host/linear-int8/report.json").verbs() == []
        shutil.rmtree(house / "build/model/own_project-float32")
        over = scons(house, "BOARD=host", "MODEL=linear,own_project", "QUANTIZE=float32", "-n", "firmware")
        assert over.code == 0 and "-int8" not in over.text and over.verbs().count("EXPORT") == 2, (
            "one overruled, one as it says"
        )
        refused = scons(house, "BOARD=host", "MODEL=build/model/linear-int8/model.pte", "QUANTIZE=float32")
        assert refused.code != 0 and "is int8, not float32" in refused.text
    finally:
        script.write_text(good, encoding="utf-8")


def test_a_script_outside_the_tree(house: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples/add/model.py", tmp_path / "elsewhere.py")
    done = scons(house, "BOARD=host", f"MODEL={tmp_path}/elsewhere.py", "firmware")
    assert done.code == 0 and (house / "build/host/elsewhere-float32/firmware.elf").exists(), done.text


def test_a_file_that_a_script_names_exports_again(house: Path, tmp_path: Path) -> None:
    """The name of the script has a space in it, too."""
    text = (ROOT / "examples/add/model.py").read_text(encoding="utf-8")
    named = 'from pathlib import Path\nPath(__file__).with_name("w.txt").read_text()\n'
    (tmp_path / "my net.py").write_text(f"{text}\n\n{named}", encoding="utf-8")
    (tmp_path / "w.txt").write_text("1", encoding="utf-8")
    words = ("BOARD=host", f"MODEL={tmp_path}/my net.py", "firmware")
    done = scons(house, *words)
    assert done.code == 0 and (house / "build/host/my_net-float32/firmware.elf").exists(), done.text
    assert scons(house, *words, "-n").verbs() == []
    (tmp_path / "w.txt").write_text("2", encoding="utf-8")
    assert scons(house, *words).verbs() == ["EXPORT"]


def test_kernels_and_delegates_of_ones_own_are_sources(house: Path, tmp_path: Path) -> None:
    """Those of docs/write-a-kernel.md, some beside the script, some named, and the delegate of docs/delegates.md."""
    files = pages.files("write-a-kernel.md")
    delegate = {name: text for name, text in pages.files("delegates.md").items() if name.startswith("backends/acme")}
    layer = "super().__init__()\n        self.layer = torch.nn.Linear(4, 4)"
    files["model.py"] = files["model.py"].replace("super().__init__()", layer).replace("wave(x,", "wave(self.layer(x),")
    files["model.py"] += 'delegates = ["acme_dense"]\n'
    for name, text in {**files, **delegate}.items():
        path = tmp_path / name.replace("kernels/mine/", "more/mine/").replace("model.py", "ring.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(', features=frozenset({"dsp"})', ""), encoding="utf-8")
    words = ("BOARD=host", f"MODEL={tmp_path}/ring.py", "firmware")
    done = scons(house, *words, f"KERNELS={tmp_path}/more")
    assert done.code == 0, done.text
    memory = json.loads((house / "build/host/ring-float32/memory.json").read_text(encoding="utf-8"))
    assert {"wave", "push", "near_tanh", "acme_dense"} <= {step["kernel"] for step in memory["steps"]}
    assert scons(house, *words, f"KERNELS={tmp_path}/more", "-n").verbs() == []
    assert "EXPORT" in scons(house, *words, "-n").verbs(), "the tanh is ours again"
    changes = {"kernels/wave/wave.h": {"CXX"}, "more/mine/op.py": {"EXPORT", "GENERATE"}}
    changes |= {"backends/acme_dense/acme_dense.h": {"CXX"}, "backends/acme_dense/backend.py": {"EXPORT", "GENERATE"}}
    for name, wanted in changes.items():
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
        verbs = set(scons(house, *words, f"KERNELS={tmp_path}/more", "-n").verbs())
        assert wanted <= verbs and ("EXPORT" in verbs) == ("EXPORT" in wanted), (name, verbs)
        (tmp_path / name).write_text(text, encoding="utf-8")


def test_of_two_at_once_one_waits(house: Path) -> None:
    """Both end well, and the second says for whom it waited; with -n nobody waits."""
    command = [sys.executable, "-m", "SCons", "-Q", "BOARD=host", "MODEL=linear,own_project", "report"]
    with alone_in(house):
        second = subprocess.Popen(command, cwd=house, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Its own parent holds the folder, which is no reason to wait: a build may build.
        assert second.communicate()[1] == "" and second.returncode == 0
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(house)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout is not None and holder.stdout.readline() == "in\n"
    second = subprocess.Popen(command, cwd=house, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    said = second.stderr.readline()
    assert said.startswith("waiting for ") and f"(pid {holder.pid})" in said
    assert subprocess.run([*command, "-n"], cwd=house, capture_output=True, text=True, check=True).stderr == ""
    holder.kill()
    holder.communicate()
    assert second.communicate() and second.returncode == 0
