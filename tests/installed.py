"""The wheel of this clone in an environment of its own, as users have it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Installed:
    environment: Path

    @property
    def site(self) -> Path:
        return next(self.environment.glob("lib/python3*/site-packages"))

    def run(self, *words: object, cwd: Path) -> str:
        """What a command says where this environment is the active one: it has `python`, `etexport` and `scons`."""
        names = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        names["PATH"] = os.pathsep.join([str(self.environment / "bin"), names["PATH"]])
        done = subprocess.run(
            [str(word) for word in words], cwd=cwd, env=names, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def install(environment: Path) -> None:
    """Torch and the other dependencies are those of the Python that runs the tests, behind the environment's own
    packages on its path: installing them takes minutes. What pip writes for SCons is written here for that reason."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels = environment.with_name("wheels")
    for words in (
        [sys.executable, "-m", "venv", "--without-pip", environment],
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT],
    ):
        subprocess.run(words, check=True)
    (wheel,) = wheels.glob("etexport-*.whl")
    subprocess.run([*pip, "--python", environment / "bin/python", "install", "--no-deps", wheel], check=True)
    (Installed(environment).site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    scons = environment / "bin/scons"
    scons.write_text(f"#!{environment}/bin/python\nimport sys\nfrom SCons.Script.Main import main\nsys.exit(main())\n")
    scons.chmod(0o755)
