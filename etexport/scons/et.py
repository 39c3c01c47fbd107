"""The SCons tool `et`: from a model script to a verified firmware, as nodes of the build graph (docs/build.md).

The only file that knows SCons. It asks `etexport boards` (a subprocess) what there is to compile, and every step is a
verb of `etexport`.

    script -> model.pte, model.npz -> program.cpp, ... -> objects -> firmware.elf -> firmware.bin -> run.json,
    outputs.npz -> report.json
"""

import ast
import functools
import gc
import hashlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from SCons.Script import ARGUMENTS, COMMAND_LINE_TARGETS, Action

QUANTIZATIONS = ("float32", "int8", "int8-weights", "int4-weights", "bf16-weights", "fp16-weights")
GENERATED = (
    "program.h",
    "program_c.h",
    "program.cpp",
    "marked.cpp",
    "binding.cpp",
    "constants.S",
    "constants.bin",
    "memory.json",
)

LONGEST_NAME = 120  # bytes of a model's name in the name of a folder

HELP = """
./sconsw [TARGET ...] [NAME=VALUE ...] [-j N] [-c]

  report     report.json and report.html of MODEL on BOARD, compared with eager PyTorch (the default)
  demo       the digits, from training to the outputs of an emulated Cortex-M4, and one screen about it
  firmware   ELF, bin, hex and map of MODEL on BOARD
  profile    instructions of MODEL on BOARD by function and line of the script: a Chrome trace, collapsed stacks
  flash      write the firmware of MODEL to BOARD at PORT (TOOL=, AT=), and have it say that it runs
  mlperf     firmware of MODEL that speaks MLPerf Tiny's protocol, and what it answers in BOARD's simulator
  robot      firmware.robot beside the firmware, for renode-test (BOARD: one that runs in Renode)
  bench      the four MLPerf Tiny networks, in float32 and int8, on the Arm and RISC-V boards: build/bench.json, and tables
  test       pytest, with PYTEST="..." as its arguments
  fuzz       100,000 programs that lie through the target side, and 10,000,000 inputs for each parser of frames
  compile_commands.json   for editors
  a path     one file below build/: build/BOARD/MODEL-float32/firmware.elf, or MODEL-int8

Models: {models}. Boards: see `etexport boards`.
-c removes what a target made; --debug=explain says why something is made again; --cache-... work as always.
"""  # noqa: E501

_ROOT = Path(__file__).resolve().parents[2]  # a clone, or where pip put the package: this file is in both
_held = []  # the lock on the project's folder
_facts = {}  # boards asked about, by name
_environments = {}  # of boards, by file, for each environment that they are made from
_programs = {}  # the script of each model's folder
_nodes = {}  # files of etexport, by what they are together
_shared = {}  # objects of the firmware, by build folder and board: the same for every model


def exists(env):
    return (_ROOT / "etexport").is_dir()


def generate(env):
    _hold(env)
    # what SCons builds up lives to the end: looking it through again and again takes a tenth of the time
    gc.set_threshold(1_000_000)
    for tool in ("cc", "cxx", "as", "link"):  # the generic ones: those of gcc start the compiler to ask for its version
        env.Tool(tool)
    env.SetDefault(
        BOARD="qemu_mps2_an386",
        OPTIMIZE="speed",
        QUANTIZE="",
        SAMPLES="",
        KERNELS="",
        PASSES="",
        BACKENDS="",
        VERBOSE=False,
        ET_BUILD="#build",
    )
    # The etexport that this file belongs to, also where another one is installed.
    env["ENV"] = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))}
    env.Replace(ETEXPORT_PYTHON=sys.executable)
    # where Python lies is no reason to make a thing again
    env.Replace(ETEXPORT=["$(", sys.executable, "-P", "$)", "-m", "etexport"])
    # a search of PATH for each command; what is compiled names its compiler itself
    env.Replace(IMPLICIT_COMMAND_DEPENDENCIES=False)
    env.Decider("content")
    for method in (
        EtProgram,
        EtFirmware,
        EtLibrary,
        EtSimulate,
        EtCapture,
        EtFlash,
        EtRobot,
        EtMlperf,
        EtValidate,
        EtReport,
        EtProfile,
        EtBench,
        EtShow,
        EtExamples,
        EtVariables,
        EtAsked,
    ):
        env.AddMethod(method)


def _hold(env):
    """One build at a time in a project: both would write its targets, and what SCons knows of them. Held until this
    process ends."""
    if env.GetOption("help") or env.GetOption("no_exec") or COMMAND_LINE_TARGETS == ["test"] or _held:
        return
    _held.append(_module("alone").hold(Path(env.Dir("#").abspath)))


def _module(name):
    """A file of etexport that needs nothing of it, nor of what it is installed with."""
    spec = importlib.util.spec_from_file_location(f"etexport_{name}", _ROOT / "etexport" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


_SCRIPT_FILES = _module("script_files")
_PROJECT = _module("project")


# ---- builders --------------------------------------------------------------------------------------------------------


def EtProgram(env, script, NAME=None, QUANTIZE=None, KERNELS=None, PASSES=None, BACKENDS=None):
    """`model.pte` and `model.npz` of a model script or a `.pt2`; of a `.pte`, itself and outputs of the host board to
    compare with.

    `QUANTIZE` (one of `QUANTIZATIONS`) overrules what the script says. `KERNELS`, `PASSES` and `BACKENDS` name
    folders of the project's own beside those in the script's folder."""
    script = _file(env, script)
    name, said = _plain(NAME or _model_name(Path(script.path))), _quantization(Path(script.get_abspath()))
    quantization = QUANTIZE or env.subst("$QUANTIZE") or said
    folder = env.Dir(f"$ET_BUILD/model/{name}-{quantization}")
    if _programs.setdefault(folder.abspath, script) != script:
        _stop(
            env,
            f"two models are called {name}: {_programs[folder.abspath]} and {script}",
            "give one of them another name: NAME=",
        )
    folders = (KERNELS or "$KERNELS", PASSES or "$PASSES", BACKENDS or "$BACKENDS")
    given = [env.Split(env.subst(one or "")) for one in folders]
    project = _PROJECT.project_at(*([env.Dir(path).abspath for path in paths] for paths in given))
    words = _words(env, project)
    project = _PROJECT.joined(_PROJECT.beside(Path(script.get_abspath())), project)
    if script.path.endswith(".pte"):
        if quantization != said:
            _stop(env, f"{script.path} is {said}, not {quantization}", "a program is quantised when it is exported")
        made = [
            script,
            *env.Command(
                folder.File("model.npz"), script, _action(env, "REFERENCE", "$ETEXPORT reference $SOURCE -o $TARGET")
            ),
        ]
        env.Depends(made[1], [_verb(env, "reference")])
        return _tag(made, name=name, quantization=said, pte=made[0], npz=made[1], project=project)
    files = _SCRIPT_FILES.local_files(Path(script.get_abspath()), Path(env.Dir("#").abspath)) + project.declarations
    sources, imported = [script], [env.File(str(file)) for file in files]
    if _has_function(script, "train"):
        train = _action(env, "TRAIN", "$ETEXPORT train $SOURCE -o $TARGET")
        weights = env.Command(folder.File("weights.npz"), script, train)
        env.Depends(weights, imported)
        sources += weights
    # One action object for all models with the same word: its batch key makes one start of torch of all that are out of
    # date.
    overrule = (f" --quantize {quantization}" if quantization != said else "") + words
    action = f"ET_EXPORT{re.sub(r'[^A-Za-z0-9]', '_', overrule).upper()}"
    if action not in env:
        command = f"$ETEXPORT export $CHANGED_SOURCES -o $CHANGED_TARGETS{overrule}"
        env[action] = _action(env, "EXPORT", command, batch_key=True, targets="$CHANGED_TARGETS")
    made = env.Command([folder.File("model.pte"), folder.File("model.npz")], sources, env[action])
    # SCons removes targets before it builds them, and reads no `#include` in what depends on a file that is away: with
    # -j it would forget the headers of program.cpp whenever export gives the same bytes again. Export renames, so
    # nothing need be removed.
    env.Precious(made)
    if made[0].exists() and not made[1].exists():
        env.AlwaysBuild(made)  # of a batch, SCons asks about the first target alone
    # Not a scanner: SCons gives what it finds for one node of a batch to all of them.
    env.Depends(made, [*imported, _verb(env, "export"), *_torch(env)])
    return _tag(made, name=name, quantization=quantization, pte=made[0], npz=made[1], project=project)


def EtFirmware(env, program, BOARD=None, OPTIMIZE=None):
    """`firmware.bin`, `.elf`, `.hex`, `.map` of a program on a board."""
    of = program[0].attributes.et
    board, optimize = _board(env, BOARD or env.subst("$BOARD")), OPTIMIZE or env.subst("$OPTIMIZE")
    build = board["build"]
    folder = env.Dir(
        f"$ET_BUILD/{_plain(board['name'])}/{of['name']}-{of['quantization']}{'-size' if optimize == 'size' else ''}"
    )
    here = _board_environment(env, board, of["project"].include)

    files = [*GENERATED, *(["link.ld"] if build["link_script"] else [])]
    step = f"$ETEXPORT generate $SOURCE -o ${{TARGET.dir}} --board $ET_BOARD --optimize {optimize} --name {of['name']}"
    step += _words(env, of["project"])
    sources = here.Command([folder.File(file) for file in files], of["pte"], _action(here, "GENERATE", step))
    own = [env.File(str(file)) for file in of["project"].declarations]
    here.Depends(sources, [_verb(env, "generate"), env.File(board["file"]), *own])
    made = {node.name: node for node in sources}

    objects = [_object(here, made[file], folder) for file in build["generated"]]
    here.Depends(objects, made["constants.bin"])
    objects += [_foreign_object(here, made["memory.json"], folder, of["project"]), *_firmware_objects(env, board)]
    link = "$ET_LINK && mv ${TARGET}.part $TARGET"
    elf = here.Command([folder.File("firmware.elf"), folder.File("firmware.map")], objects, _action(here, "LINK", link))
    if build["link_script"]:
        here.Depends(elf, made["link.ld"])
    copy = " && ".join(
        f"$ET_{suffix.upper()} && mv ${{TARGETS[{n}]}}.part ${{TARGETS[{n}]}}"
        for n, suffix in enumerate(build["images"])
    )
    images = [folder.File(f"firmware.{suffix}") for suffix in build["images"]]
    image = here.Command(images, elf[0], _action(here, "BIN", copy))
    size = "$ETEXPORT size ${TARGET.dir} --board $ET_BOARD --objects ${SOURCES[2:]} -o $TARGET"
    sizes = here.Command(folder.File("sizes.json"), [*elf, *objects], _action(here, "SIZE", size))
    here.Depends(sizes, _verb(env, "size"))
    facts = {
        **of,
        "board": board,
        "folder": folder,
        "env": here,
        "sources": made,
        "own": own,
        "image": image[0],
        "sizes": sizes[0],
    }
    return _tag([image[0], *elf, image[1], *sizes], **facts)


def EtLibrary(env, program, BOARD=None, OPTIMIZE=None):
    """Objects of a model for another firmware, one source among its others, compiled by this environment; the folder of
    its header is put on CPPPATH. The kernels and the plan are those for `BOARD`: `etexport library`."""
    of = program[0].attributes.et
    board, optimize = _board(env, BOARD or env.subst("$BOARD")), OPTIMIZE or env.subst("$OPTIMIZE")
    name = of["name"]
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        _stop(
            env, f"{name} cannot be a namespace of C++", "give the model another name: env.EtProgram(script, NAME=...)"
        )
    folder = env.Dir(
        f"$ET_BUILD/library/{_plain(board['name'])}/{name}-{of['quantization']}{'-size' if optimize == 'size' else ''}"
    )
    sources = [folder.File(f"src/{name}{end}") for end in (".cpp", "_constants.c", ".h")]
    command = (
        f"$ETEXPORT library $SOURCE -o ${{TARGET.dir.dir}} --board {shlex.quote(board['argument'])} --optimize "
        f"{optimize} --name {name}{_words(env, of['project'])}"
    )
    made = env.Command([*sources, folder.File("memory.json")], of["pte"], _action(env, "LIBRARY", command))
    env.Precious(made)  # headers beside them are no targets, and what stays the same is not written again
    own = [env.File(str(file)) for file in of["project"].files]
    env.Depends(made, [_verb(env, "library"), env.File(board["file"]), *own])
    env.AppendUnique(CPPPATH=[folder.Dir("src")])
    flags = [
        flag
        for flag in board["build"]["flags"]
        if flag not in board["toolchain"]["flags"] and not flag.startswith(_FOR_US)
    ]
    return [*env.Object(made[0], CXXFLAGS=[*env["CXXFLAGS"], *flags]), *env.Object(made[1])]


_FOR_US = ("-W", "-g", "-fstack-usage")  # flags of our own firmware that its code does not need


def EtSimulate(env, firmware, SAMPLES=""):
    """`run.json`, `outputs.npz`, `wire.log` of all samples (or the first so many), and a run of few that counts every
    step and, in int8 of those that are furthest off, traces what each gives (`trace.npz`)."""
    of = firmware[0].attributes.et
    here, folder = of["env"], of["folder"]
    # What runs depends on the loadable bytes alone: a changed comment changes only the debug information.
    run = "$ETEXPORT run ${TARGET.dir} --board $ET_BOARD --inputs ${SOURCES[1]} %s"
    names = ("run.json", "outputs.npz", "wire.log")
    samples = env.subst("$SAMPLES") or SAMPLES
    everything = _action(here, "RUN", run % (f"--samples {samples}" if samples else ""))
    made = here.Command([folder.File(name) for name in names], [of["image"], of["npz"]], everything)

    profile = folder.Dir("profile")
    probes = [profile.File("firmware.bin"), profile.File("firmware.elf")]
    build = "$ETEXPORT build ${SOURCES[0]} -o ${TARGET.dir} --sources ${SOURCES[1].dir} --probes -j 1 --board $ET_BOARD"
    image = here.Command(probes, [of["pte"], firmware[1], of["sources"]["memory.json"]], _action(here, "PROBES", build))
    here.Clean(image, profile)
    counts = [profile.File(name) for name in (*names, "trace.npz")]
    look = "$ETEXPORT furthest ${TARGET.dir} --program ${SOURCES[2]} --reference ${SOURCES[1]}"
    sources = [folder.File("outputs.npz"), of["npz"], of["pte"], of["sources"]["memory.json"]]
    furthest = here.Command(folder.File("furthest.json"), sources, _action(here, "FURTHEST", look))
    here.Depends(furthest, _verb(env, "furthest"))
    steps = here.Command(
        counts, [image[0], of["npz"], *furthest], _action(here, "PROFILE", run % "--probes --only ${SOURCES[2]}")
    )
    here.Depends(steps, folder.File("run.json"))
    here.Depends([made, steps], [_verb(env, "run"), env.File(of["board"]["file"]), of["sizes"]])
    return _tag([*made, *steps], **of, run=made, profile=steps)


def EtValidate(env, run):
    """`validate.json`, there only where every output agrees with eager PyTorch, and every integer operator with exact
    arithmetic."""
    of = run[0].attributes.et
    command = (
        "$ETEXPORT validate ${TARGET.dir} --board $ET_BOARD --program ${SOURCES[2]} --reference ${SOURCES[1]} -o "
        "$TARGET"
    )
    sources = [
        of["folder"].File("outputs.npz"),
        of["npz"],
        of["pte"],
        of["sources"]["memory.json"],
        *of["run"],
        *of["profile"],
    ]
    made = of["env"].Command(of["folder"].File("validate.json"), sources, _action(env, "VALIDATE", command))
    env.Depends(made, [_verb(env, "validate"), *of["own"]])
    env.SideEffect(of["folder"].Dir("trace").File("run.json"), made)  # by the report too: not both at once
    return _tag(made, **of)


def EtReport(env, run):
    """`report.json`, `report.html` and `report.txt` of a run."""
    of = run[0].attributes.et
    here, folder = of["env"], of["folder"]
    command = (
        "$ETEXPORT report ${TARGET.dir} --board $ET_BOARD --program ${SOURCES[0]} --reference ${SOURCES[1]} --quiet"
    )
    sources = [of["pte"], of["npz"], of["image"], of["sizes"], of["sources"]["memory.json"], *of["run"], *of["profile"]]
    targets = [folder.File(f"report.{suffix}") for suffix in ("json", "html", "txt")]
    made = here.Command(targets, sources, _action(here, "REPORT", command))
    here.Depends(made, [_verb(env, "report"), env.File(of["board"]["file"]), *of["own"]])
    here.SideEffect(folder.Dir("trace").File("run.json"), made)
    return _tag(made, **of)


def EtProfile(env, run):
    """`profile.json` (a Chrome trace) and `profile.collapsed`: where the instructions of a run go, by function and line
    of the script."""
    of = run[0].attributes.et
    here, folder = of["env"], of["folder"]
    sources = [of["image"], of["npz"], of["sources"]["memory.json"], *of["run"], *of["profile"]]
    command = "$ETEXPORT profile ${TARGET.dir} --board $ET_BOARD --inputs ${SOURCES[1]}"
    made = here.Command(
        [folder.File(name) for name in ("profile.json", "profile.collapsed")], sources, _action(here, "COUNT", command)
    )
    here.Depends(made, [_verb(env, "profile"), env.File(str(_ROOT / "etexport" / "device" / "instructions.c"))])
    return _tag(made, **of)


def EtCapture(env, firmware, target, PORT="", INPUTS=None):
    """What an attached board gives for its samples (or those of `INPUTS`), in a `.npz`, `.csv` or `.jsonl`: `etexport
    capture`."""
    of = firmware[0].attributes.et
    port = f" --port {PORT}" if PORT else ""
    command = (
        f"$ETEXPORT capture ${{SOURCE.dir}} --board $ET_BOARD --inputs ${{SOURCES[1]}} -o $TARGET --overwrite{port}"
    )
    made = of["env"].Command(
        target, [of["image"], _file(env, INPUTS) if INPUTS else of["npz"]], _action(env, "CAPTURE", command)
    )
    env.Depends(made, [_verb(env, "capture"), env.File(of["board"]["file"]), of["sizes"], firmware[1]])
    return env.NoCache(made)


def EtFlash(env, alias, firmware, PORT="$PORT", TOOL="$TOOL", AT="$AT"):
    """An alias that writes a firmware to an attached board each time it is asked for, and has the firmware say that it
    runs: `etexport flash`."""
    of = firmware[0].attributes.et
    given = [(option, env.subst(value)) for option, value in (("--port", PORT), ("--tool", TOOL), ("--at", AT))]
    words = "".join(f" {option} {shlex.quote(value)}" for option, value in given if value)
    command = f"$ETEXPORT flash ${{SOURCE.dir}} --board $ET_BOARD{words}"
    action = Action(command) if env["VERBOSE"] else Action(command, "  FLASH     ${SOURCE.dir}")
    return env.AlwaysBuild(of["env"].Alias(alias, [of["image"], firmware[1]], action))


def EtRobot(env, alias, firmware, SAMPLES=""):
    """An alias that writes a Robot test, which compares the outputs of the firmware's samples in Renode with PyTorch's,
    beside the firmware: `etexport robot`."""
    of = firmware[0].attributes.et
    samples = env.subst("$SAMPLES") or SAMPLES
    command = (
        f"$ETEXPORT robot ${{SOURCE.dir}} --board $ET_BOARD --program ${{SOURCES[2]}} --reference "
        f"${{SOURCES[3]}} --name {of['name']}"
    )
    command += f" --samples {samples}" if samples else ""
    action = Action(command) if env["VERBOSE"] else Action(command, "  ROBOT     ${SOURCE.dir}")
    return env.AlwaysBuild(of["env"].Alias(alias, [of["image"], firmware[1], of["pte"], of["npz"]], action))


def EtMlperf(env, alias, firmware, SAMPLES=""):
    """An alias for `mlperf/firmware.elf` beside a firmware, which speaks MLPerf Tiny's protocol, and of a board that is
    simulated for `mlperf.txt`: what it answers to the benchmark's questions. `etexport mlperf`."""
    if alias not in COMMAND_LINE_TARGETS:  # a network of the bench has 80 nodes without it
        return []
    of = firmware[0].attributes.et
    here, folder = of["env"], of["folder"]
    command = (
        f"$ETEXPORT mlperf {folder} --board $ET_BOARD --program ${{SOURCES[1]}} --reference ${{SOURCES[2]}} "
        f"--name {of['name']}"
    )
    sources = [of["image"], of["pte"], of["npz"], of["sources"]["memory.json"]]
    images = [folder.Dir("mlperf").File(f"firmware.{suffix}") for suffix in ("elf", "bin", "hex")]
    made = here.Command(images, sources, _action(here, "MLPERF", f"{command} --build"))
    here.Clean(made, folder.Dir("mlperf"))
    if of["board"]["simulator"]:
        samples = env.subst("$SAMPLES") or SAMPLES
        words = f"{f'--samples {samples} ' if samples else ''}--ask -o $TARGET > /dev/null"
        made = (
            here.Command(
                folder.File("mlperf.txt"), [made[1], *sources[1:3], made[0]], _action(here, "RUN", f"{command} {words}")
            )
            + made
        )
    front = Path(of["board"]["build"]["include"][0], "mlperf")
    here.Depends(
        made,
        [
            _verb(env, "mlperf"),
            env.File(of["board"]["file"]),
            *(env.File(str(file)) for file in sorted(front.glob("*"))),
        ],
    )
    return EtShow(env, alias, made)


def EtBench(env, target, reports):
    """All reports in one `bench.json`, and a table beside it."""
    command = "$ETEXPORT bench $SOURCES -o $TARGET --quiet"
    table = str(Path(str(target)).with_suffix(".txt"))
    made = env.Command([target, table], [report[0] for report in reports], _action(env, "BENCH", command))
    env.Depends(made, _verb(env, "bench"))
    return made


def EtShow(env, alias, shown, needed=()):
    """An alias that prints the text files among `shown` once they and `needed` are up to date, and last where the pages
    are."""
    nodes = env.Flatten(shown)

    def show(target, source, env):
        for node in (node for node in nodes if node.name.endswith(".txt")):
            sys.stdout.write(node.get_text_contents())
        for node in (node for node in nodes if node.name.endswith(".html")):
            sys.stdout.write(f"{node}\n")

    return env.AlwaysBuild(
        env.Alias(alias, [*env.Flatten(shown), *env.Flatten(needed)], Action(show, strfunction=None))
    )


# ---- what there is ---------------------------------------------------------------------------------------------------


def EtExamples(env, folder):
    """Model scripts below `folder` by name: the file's own, unless it is model.py, then its folder's."""
    found = {}
    for path in sorted(Path(env.Dir(folder).abspath).glob("*/*.py")):
        if any(_has_function(env.File(str(path)), name) for name in ("model", "methods")):
            name = _model_name(path)
            if name in found:
                _stop(env, f"two examples are called {name}: {found[name]} and {path}")
            found[name] = str(path)
    return found


def EtVariables(env, variables, models):
    """Refuse unknown variables and models, and explain them in `scons --help`. Returns the chosen scripts."""
    for name in variables.UnknownVariables():
        _stop(env, f"unknown variable {name}", _near(name, list(variables.keys())))
    if (samples := env.subst("$SAMPLES")) and not (samples.isdecimal() and int(samples)):
        _stop(env, f"SAMPLES={samples} is no number of samples")
    chosen = {}
    for name in env["MODEL"].split(","):
        if name not in models and not Path(name).is_file() and "MODEL" in ARGUMENTS:
            _stop(
                env, f"no model is called {name}", f"{_near(name, models)} a path to a script, .pt2 or .pte works too"
            )
        _check_name(env, name)
        called, path = (name, models[name]) if name in models else (_model_name(Path(name)), name)
        if chosen.setdefault(called, path) != path:
            _stop(env, f"two models are called {called}: {chosen[called]} and {path}")
    env.Help(HELP.format(models=", ".join(sorted(models))))
    env.Help(variables.GenerateHelpText(env), append=True)
    return chosen


def EtAsked(env, jobs):
    """The jobs that the command line asks for: aliases by name, else "report"; a path below build/ says model and board
    itself."""
    of_firmware = {"firmware", "profile", "flash", "robot", "mlperf", "compile_commands.json"}
    words = [*jobs, *sorted(of_firmware), "test", "fuzz"]
    for target in COMMAND_LINE_TARGETS:
        if target not in (*words, "build") and "/" not in target and not Path(target).exists():
            _stop(env, f"nothing is called {target}", f"{_near(target, words)} a path below build works too")
    found = {alias: jobs[alias] for alias in COMMAND_LINE_TARGETS if alias in jobs}
    paths = [Path(target).parts for target in COMMAND_LINE_TARGETS if "/" in target]
    named = [
        (parts[1], *parts[2].removesuffix("-size").rpartition("-"), parts[2].endswith("-size"))
        for parts in paths
        if len(parts) > 2
    ]
    named = [
        (board, model, quantization, size)
        for board, model, _, quantization, size in named
        if quantization in QUANTIZATIONS
    ]
    if named:
        some = jobs["report"][0][1]
        found["report"] = [
            (model, some if board == "model" else board, quantization, "size" if size else "speed")
            for board, model, quantization, size in named
        ]
    elif not COMMAND_LINE_TARGETS or of_firmware & set(COMMAND_LINE_TARGETS):
        found["report"] = jobs["report"]
    if "build/bench.json" in COMMAND_LINE_TARGETS:
        found["bench"] = jobs["bench"]
    if "compile_commands.json" in COMMAND_LINE_TARGETS:
        env.Tool("compilation_db")
        env.CompilationDatabase("#compile_commands.json")
    return found


def _board(env, name):
    """What `etexport boards --json --build` says about a board, kept in the build folder for as long as it must still
    be true."""
    if name not in _facts:
        kept = Path(env.Dir("$ET_BUILD/boards").abspath, f"{name.replace('/', '_')}.json")
        _facts[name] = _remembered(env, kept) or _asked(env, name, kept)
    return _facts[name]


def _remembered(env, kept):
    try:
        content = json.loads(kept.read_text("utf-8"))
        return (
            content["facts"]
            if content["path"] == env["ENV"].get("PATH") and content["state"] == _state(content["state"])
            else None
        )
    except (OSError, ValueError, KeyError):
        return None


def _asked(env, name, kept):
    command = [sys.executable, "-P", "-m", "etexport", "boards", "--json", "--build", name]
    done = subprocess.run(
        command, env=env["ENV"], cwd=env.Dir("#").abspath, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        env.Exit(done.returncode)
    facts = json.loads(done.stdout)[name]
    build = facts["build"]
    asked = [
        _ROOT / "etexport" / file
        for file in ("board.py", "hardware.py", "resources.py", "cli/boards.py", "toolchain/gcc.py")
    ]
    folders = {str(Path(source).parent) for source in build["sources"]}  # a new file of the firmware changes its folder
    # so does an installed package
    folders |= {folder for folder in sys.path if folder.endswith("-packages") and Path(folder).is_dir()}
    state = _state(
        [*map(str, asked), facts["file"], build["compiler"], build["driver"], build["objcopy"], *sorted(folders)]
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"path": env["ENV"].get("PATH"), "state": state, "facts": facts}), "utf-8")
    return facts


def _state(paths):
    return {path: [(found := Path(path).stat()).st_mtime_ns, found.st_size] for path in paths}


# ---- nodes -----------------------------------------------------------------------------------------------------------


def _words(env, project):
    """The arguments that name a project's parts, by paths from the folder in which SCons runs."""
    lists = project.relative_to(Path(env.Dir("#").abspath))
    return "".join(f" --{name} {shlex.quote(path)}" for name, paths in lists.items() for path in paths)


def _board_environment(env, board, folders=()):
    """The compiler of a board, with the kernels and delegates of a project. One for all its models: SCons looks for the
    includes of a header once for each environment."""
    known, build = _environments.setdefault(id(env), (env, {}))[1], board["build"]
    _check_name(env, board["argument"])
    key = (board["file"], folders)
    if key in known:
        return known[key]
    here = known[key] = env.Clone()
    include = [*build["include"], *map(str, folders)]
    maps = [f"-ffile-prefix-map={folder.parent}=kernels" for folder in folders]
    here.Replace(
        CXX=build["compiler"],
        CC=build["driver"],
        CXXFLAGS=[
            *build["flags"],
            "$(",
            *maps,
            *build["maps"],
            "$)",
        ],  # where the folders lie is no reason to compile again
        ASPPFLAGS=_filled(build["assembler_flags"], folder="${SOURCE.dir}"),
        CPPPATH=[*map(env.Dir, include)],
        # As SCons would make them of CPPPATH and CPPDEFINES, once and not for each object.
        _CPPINCFLAGS=["$(", *(f"-I{env.Dir(folder)}" for folder in include), "$)"],
        _CPPDEFFLAGS=[f"-D{name}={value}" for name, value in build["defines"].items()],
        OBJSUFFIX=".o",
        ET_LINK=_filled(
            build["link"], objects="$SOURCES", elf="${TARGET}.part", map="${TARGETS[1]}", script="${TARGET.dir}/link.ld"
        ),
        **{
            f"ET_{suffix.upper()}": _filled(command, elf="$SOURCE", image=f"${{TARGETS[{n}]}}.part")
            for n, (suffix, command) in enumerate(build["images"].items())
        },
        ET_BOARD=env.Literal(board["argument"]),  # a path may have spaces, and more
    )
    if not env["VERBOSE"]:
        here.Replace(CXXCOMSTR="  CXX       $TARGET", ASPPCOMSTR="  AS        $TARGET")
    return here


def _filled(command, **names):
    """The words of a command, with SCons's names for files where it leaves them open."""
    for name, said in names.items():
        command = [word.replace(f"{{{name}}}", said) for word in command]
    return command


def _object(env, source, folder):
    """The object of one source; a C++ file also leaves its stack usage, a target like any other so that a cache keeps
    it."""
    stem = Path(source.name).stem
    targets = [
        folder.File(f"obj/{stem}{suffix}") for suffix in ((".o", ".su") if source.name.endswith(".cpp") else (".o",))
    ]
    return env.Object(targets, source)[0]


def _foreign_object(env, memory, folder, project):
    """What the calls of a program bring in C and C++: only `generate` knows whether there is any, so an archive of
    nothing takes the place of the object where there is none."""
    targets = [folder.File(f"obj/foreign{suffix}") for suffix in (".o", ".su")]
    made = env.Command(targets, memory, Action(_compile_foreign, strfunction=_say_foreign))
    files = [env.File(str(file)) for file in project.files if file.suffix != ".py"]
    env.Depends(made, [_verb(env, "foreign"), *files])
    return made[0]


def _compile_foreign(target, source, env):
    if _foreign_command(target, source, env):
        return env.Execute(Action(_foreign_command(target, source, env), strfunction=None))
    for node, content in zip(target, ("!<arch>\n", ""), strict=True):
        Path(node.abspath).write_text(content, "utf-8")
    return None


def _say_foreign(target, source, env):
    command = _foreign_command(target, source, env)
    return command if env["VERBOSE"] or not command else f"  CXX       {target[0]}"


def _foreign_command(target, source, env):
    """Empty where the program has none, or is still to be generated."""
    text = Path(source[0].abspath).read_text("utf-8") if source[0].exists() else ""
    words = f"$ETEXPORT foreign {shlex.quote(str(source[0].dir))} --board $ET_BOARD -o {target[0]}"
    return env.subst(words) if text and json.loads(text)["sources"] else ""


def _firmware_objects(env, board):
    folder = env.Dir(f"$ET_BUILD/{_plain(board['name'])}")
    key = (folder.abspath, board["name"])
    if key not in _shared:
        here = _board_environment(env, board)
        _shared[key] = [_object(here, env.File(path), folder) for path in board["build"]["sources"]]
    return _shared[key]


def _action(env, verb, command, **options):
    """A command line, shown as one word and the target. Not env.Action, which would fill in $TARGET at once."""
    if env["VERBOSE"]:
        return Action(command, **options)
    return Action(command, f"  {verb:9} {'$CHANGED_TARGETS' if options else '$TARGET'}", **options)


def _tag(nodes, **facts):
    for node in nodes:
        node.attributes.et = facts
    return nodes


def _file(env, path):
    """The node of a file that can be named on a command line."""
    node = env.File(path)
    _check_name(env, node.path)
    return node


def _check_name(env, path):
    if "$" in path or "`" in path:
        _stop(
            env,
            f"{path}: SCons takes what follows a $ for a variable, and the shell what follows a ` for a command",
            "rename the file or its folder",
        )


def _has_function(script, name):
    path = Path(script.get_abspath())
    return (
        path.suffix == ".py"
        and path.is_file()
        and re.search(rf"^def {name}\(", path.read_text("utf-8", "replace"), re.MULTILINE) is not None
    )


def _quantization(path):
    """What a script says in `quantize = "..."`, read and not run; of a program or a `.pt2`, what its operators' names
    say."""
    if path.suffix != ".py":
        content = path.read_bytes() if path.is_file() else b""
        return "int8" if b"quantized_decomposed" in content or b"cortex_m::" in content else "float32"
    for node in _SCRIPT_FILES.parsed(path).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "quantize" for target in targets):
            word = node.value.value if isinstance(node.value, ast.Constant) else None
            return word if word in QUANTIZATIONS else "float32"  # of another word, export says better what is wrong
    return "float32"


def _model_name(path):
    return _plain(path.absolute().parent.name if path.stem == "model" else path.stem)


def _plain(name):
    """A name as a folder and a shell's word; one that is too long is cut, with a digest of it behind."""
    plain = re.sub(r"[^\w.-]", "_", name)
    kept = plain.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore")
    return plain if kept == plain else f"{kept}_{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


# ---- etexport itself -------------------------------------------------------------------------------------------------


def _verb(env, verb):
    """The files that a verb runs, as one node, for SCons compares every edge of the graph: what its file imports,
    directly and further on, templates and tables that those name, and where it asks for operators these, with what
    installed packages add."""
    if verb not in _nodes:
        files = {_ROOT / "etexport" / "__main__.py", *_within(f"etexport.cli.{verb}")}
        todo = list(files)
        while todo:
            new = _needed(todo.pop()) - files
            files |= new
            todo += new
        files |= {file for file in _tables() if any(file.name in _text(other) for other in files)}
        _nodes[verb] = env.Alias(f"what etexport {verb} runs", [env.File(str(file)) for file in sorted(files)])[0]
    return _nodes[verb]


@functools.cache
def _needed(file):
    """The files that one of etexport runs by its own imports; verbs share most of them."""
    found = {file for module in _modules(file) for file in _within(module)}
    return found | _operators() if file == _ROOT / "etexport" / "kernel" / "library.py" else found


_IMPORTS = re.compile(
    r"^[ ]*(?:from (etexport[\w.]*) import (\([^)]*\)|[^\n#]*)|import (etexport[\w.]*))", re.MULTILINE
)


@functools.cache
def _modules(file):
    """What a file of etexport imports, wherever in it, and what that may be a part of. By pattern: 170 files take a
    second to parse."""
    found = set()
    for package, names, module in _IMPORTS.findall(_text(file)):
        found |= {package or module, *(f"{package}.{name}" for name in re.findall(r"(\w+)(?: as \w+)?", names))}
    return sorted(found)


@functools.cache
def _text(file):
    return file.read_text("utf-8") if file.suffix == ".py" else ""


@functools.cache
def _tables():
    """Templates, and figures of others."""
    data = _ROOT / "etexport" / "data"
    return [*_ROOT.glob("etexport/*/templates/*.j2"), *(data if data.is_dir() else _ROOT).glob("benchmarks/*.toml")]


@functools.cache
def _within(module):
    """The files that importing a module of etexport runs: its own, and those of the packages that it is in."""
    package, _, _ = module.rpartition(".")
    stem = _ROOT.joinpath(*module.split("."))
    candidates = (stem / "__init__.py", stem.with_suffix(".py"))
    return [*(_within(package) if package else ()), *(file for file in candidates if file.is_file())]


@functools.cache
def _operators():
    """The Python files of the kernel folders, and sources of our delegates and of installed packages that add kernels,
    passes or delegates."""
    data = _ROOT / "etexport" / "data"
    folder = data if data.is_dir() else _ROOT
    ours = (*folder.glob("kernels/*/*.py"), *(file for file in folder.glob("backends/*/*") if file.suffix in _SOURCES))
    return {*ours, *itertools.chain.from_iterable(map(_files, _added_modules()))}


def _added_modules():
    """Their top-level modules, from what pip noted. Read as text: importlib.metadata takes 30 ms to import."""
    for noted in (file for folder in sys.path for file in Path(folder or ".").glob("*.dist-info/entry_points.txt")):
        text = noted.read_text("utf-8", "replace")
        for group in (
            re.findall(r"^\[etexport\.(?:kernels|passes|backends)\]$([^\[]*)", text, re.MULTILINE)
            if "[etexport." in text
            else ()
        ):
            yield from re.findall(r"=\s*(\w+)", group)


_SOURCES = (".py", ".c", ".cpp", ".S")  # headers are found by the includes


def _files(module):
    found = importlib.util.find_spec(module)
    folders = list(found.submodule_search_locations or ()) if found else []
    return (
        {file for folder in folders for file in Path(folder).rglob("*") if file.suffix in _SOURCES}
        or {Path(found.origin)}
        if found and found.origin
        else set()
    )


def _torch(env):
    """The file that changes with torch's version: found, not imported, which would take two seconds."""
    found = importlib.util.find_spec("torch")
    return [env.File(str(Path(found.origin).with_name("version.py")))] if found and found.origin else []


def _near(word, known):
    import difflib  # here: most builds have nothing to say

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"{f'did you mean {near[0]}? ' if near else ''}known: {', '.join(sorted(known))};"


def _stop(env, what, hint=""):
    sys.stderr.write(f"error: {what}\n" + (f"  hint: {hint.rstrip(';')}\n" if hint else ""))
    env.Exit(1)
