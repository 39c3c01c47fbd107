"""pyOCD: the target's name is in the board's file; some targets want `pyocd pack install` first."""

from etexport.device.flash.tool import CHIP, PROBE, VERIFY, WRITE, Job, Tool
from etexport.errors import BoardError


def command(job: Job) -> tuple[str, ...]:
    attach = job.board.attach
    if attach is None or not attach.pyocd:
        raise BoardError(
            "'attach.pyocd' is missing",
            where=job.board.name,
            hint='pyocd = "nrf52840", a name of `pyocd list --targets`',
        )
    return ("pyocd", "flash", "--target", attach.pyocd, "-O", "verify=true", str(job.image))


TOOL = Tool(
    "pyocd",
    "hex",
    command,
    signs=(
        (r"no available debug probes|no connected debug probes|probe.*not found|unable to open", PROBE),
        (r"target type .*not recognized|no pack|unexpected (device|part)|does not match", CHIP),
        (r"verif\w* (failed|error)|crc mismatch|differs", VERIFY),
        (r"flash\w*failure|failed to (erase|program)|error while (erasing|programming)|flash .* failed", WRITE),
    ),
    programs=("pyocd",),
    package="pip install pyocd",
)
