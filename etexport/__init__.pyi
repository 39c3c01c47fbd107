from etexport.fleet import Plan as Plan
from etexport.fleet import sweep as sweep
from etexport.stages.notebook import Board as Board
from etexport.stages.notebook import Built as Built
from etexport.stages.notebook import build as build

__version__: str
