"""PlatformIO's side of a model script: what `custom_etexport_model` names is a part of the firmware (docs/library.md).

Runs in PlatformIO's own Python, which need not be the one that has etexport and torch: nothing but Python's own modules
here."""

# ruff: noqa: F821  SCons gives `Import` and `env`

import json
import shlex
import subprocess
import sys
from pathlib import Path

Import("env")

# SCons sets no __file__
sys.path.insert(0, str(Path((lambda: None).__code__.co_filename).resolve().parent))
from which_python import python_with_etexport  # noqa: E402

PROJECT = Path(env.subst("$PROJECT_DIR"))


def option(name, default=""):
    return env.GetProjectOption(f"custom_etexport_{name}", default)


def stop(what, hint):
    sys.stderr.write(f"Error: {what}\n  hint: {hint}\n")
    env.Exit(1)


def made_of(depfile):
    """Files that a rule of Make names behind its target."""
    rule = depfile.read_text("utf-8").partition("\n")[0].partition(": ")[2]
    return [PROJECT / word.replace("$$", "$") for word in shlex.split(rule)]


def is_current(folder, depfile, asked, command):
    """Was the folder made by this command, and is it newer than all that it was made of?"""
    if not (folder / "README.md").is_file() or not asked.is_file() or json.loads(asked.read_text("utf-8")) != command:
        return False
    made = (folder / "README.md").stat().st_mtime_ns
    return all(file.is_file() and file.stat().st_mtime_ns < made for file in made_of(depfile))


def library(script, name):
    """The folder of `etexport library` for this project's core, made anew where something that it is made of has
    changed."""
    folder = Path(env.subst("$BUILD_DIR")) / "etexport" / name
    depfile, asked = folder.with_suffix(".d"), folder.with_suffix(".json")
    where = (
        ["--board", option("board")]
        if option("board")
        else ["--core", option("core") or env.BoardConfig().get("build.cpu", "")]
    )
    command = [*ETEXPORT, "library", script, "--name", name, "-o", str(folder), "--depfile", str(depfile), *where]
    if not is_current(folder, depfile, asked, command):
        print(f"Making {name} of {script}", flush=True)
        asked.unlink(missing_ok=True)
        if subprocess.run(command, cwd=PROJECT, check=False).returncode != 0:
            env.Exit(1)
        asked.write_text(json.dumps(command), "utf-8")
    return folder


ETEXPORT = [option("python") or python_with_etexport(), "-m", "etexport"]
if ETEXPORT[0] is None:
    stop("no Python has etexport", "custom_etexport_python = PATH of the one in which it is installed, with torch")
script = option("model")
if not script:
    stop("platformio.ini names no model", "custom_etexport_model = model.py")
name = option("name") or (PROJECT.name if Path(script).stem == "model" else Path(script).stem)
folder = library(script, name)

env.Append(LIBSOURCE_DIRS=[str(folder.parent)])  # a library like those in lib/: its header in a source brings it in

if option("simulate"):
    # As etexport starts this board's simulator, with its serial port at the terminal; the firmware's exit code is the
    # target's.
    answer = subprocess.run(
        [*ETEXPORT, "boards", "--json", option("simulate")], stdout=subprocess.PIPE, text=True, check=False
    )
    if answer.returncode != 0:
        env.Exit(1)
    ((_, board),) = json.loads(answer.stdout).items()
    if not board["simulator"] or board["simulator"]["kind"] != "qemu":
        stop(
            f"{option('simulate')} does not run in QEMU",
            "custom_etexport_simulate = a board of `etexport boards` that does",
        )
    elf = str(Path(env.subst("$BUILD_DIR")) / "${PROGNAME}.elf")
    words = [board["simulator"]["program"], *board["simulator"]["arguments"]]
    words = [
        "stdio" if before == "-serial" else word.format(elf=elf)
        for before, word in zip(["", *words], words, strict=False)
    ]
    env.AddCustomTarget(
        "simulate", elf, " ".join(f'"{word}"' for word in words), title="Simulate", description="Run in QEMU"
    )
