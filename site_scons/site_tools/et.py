"""The tool `et` of this clone, also where another etexport is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from etexport.scons.et import exists, generate  # noqa: F401
