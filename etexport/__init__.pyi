from etexport.stages.notebook import Board as Board
from etexport.stages.notebook import Built as Built
from etexport.stages.notebook import build as build

__version__: str
