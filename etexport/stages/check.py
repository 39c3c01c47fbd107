"""What export has made, held against what a build takes."""

from __future__ import annotations

from etexport.delegate import library_for
from etexport.errors import doing
from etexport.kernel.call import Target
from etexport.kernel.library import Library
from etexport.passes import pipeline as board_neutral
from etexport.program import pte
from etexport.specialise.pipeline import rounding_of, specialise_all


def check_buildable(content: bytes, library: Library) -> None:
    """What a build would refuse on every board is refused at export: the file as it will be read, for a core that has
    nothing special. ProgramError, ModelError."""
    with doing("reading what export has made"):
        program = pte.read(content)
        library = library_for(program, library)
        program = board_neutral.run(program, library)
    with doing("choosing kernels for what export has made"):
        specialise_all(program, Target(rounding=rounding_of(program)), library)
