"""For the parts that run in PlatformIO's own Python, which need not have etexport."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def python_with_etexport():
    """That of the environment in which this file lies, PlatformIO's own, or the one on PATH; None where none has it."""
    clone, environment = HERE.parents[1], HERE.parents[min(6, len(HERE.parents) - 1)]
    beside = [clone / ".venv/bin/python", environment / "bin/python3"]
    for python in [*(str(path) for path in beside if path.is_file()), sys.executable, "python3"]:
        if subprocess.run([python, "-m", "etexport", "--version"], capture_output=True, check=False).returncode == 0:
            return python
    return None
