"""Where the files beside the Python code are: kernels, firmware, boards, schema."""

from pathlib import Path


def root() -> Path:
    """The folder that holds `kernels/`, `firmware/`, `boards/` and `schema/`: the repository, or the installed package's `data/`."""
    here = Path(__file__).parent
    return here / "data" if (here / "data").is_dir() else here.parent
