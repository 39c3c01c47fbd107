"""Where the files beside the Python code are: kernels, firmware, boards, schema."""

from importlib.metadata import entry_points
from pathlib import Path


def root() -> Path:
    """The folder that holds `kernels/`, `firmware/`, `boards/` and `schema/`: the repository, or the installed package's `data/`."""
    here = Path(__file__).parent
    return here / "data" if (here / "data").is_dir() else here.parent


def kernel_folders() -> tuple[Path, ...]:
    """Our own `kernels/`, then those of installed packages, by entry point name."""
    folders = [root() / "kernels"]
    for entry in sorted(entry_points(group="etexport.kernels"), key=lambda entry: entry.name):
        module = entry.load()
        folders.append(Path(next(iter(module.__path__))) if hasattr(module, "__path__") else Path(module.__file__).parent)
    return tuple(folders)
