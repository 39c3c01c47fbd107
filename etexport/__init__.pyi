from etexport.fleet import Plan as Plan
from etexport.fleet import sweep as sweep
from etexport.stages.notebook import Board as Board
from etexport.stages.notebook import Built as Built
from etexport.stages.notebook import build as build
from etexport.stages.notebook import compare as compare

__version__: str
