"""OpenOCD (0.12 tried): arguments of the board's file choose probe and chip."""

from etexport.device.flash.tool import CHIP, PROBE, VERIFY, WRITE, Job, Tool
from etexport.errors import BoardError


def command(job: Job) -> tuple[str, ...]:
    attach = job.board.attach
    if attach is None or not attach.openocd:
        raise BoardError(
            "'attach.openocd' is missing", where=job.board.name, hint='openocd = ["-f", "board/st_nucleo_f4.cfg"]'
        )
    path = str(job.image).replace("\\", "\\\\")
    return ("openocd", *attach.openocd, "-c", f"program {{{path}}} verify reset exit")


TOOL = Tool(
    "openocd",
    "elf",
    command,
    signs=(
        (r"\*\* Verify Failed \*\*|contents differ|checksum mismatch", VERIFY),
        (r"UNEXPECTED|cannot identify target|unexpected idcode|unknown.*device id|wrong device", CHIP),
        (
            r"unable to find a matching|no (j-link )?device found|open failed|unable to open|libusb_open|adapter.*not "
            r"found",
            PROBE,
        ),
        (r"error connecting dp|unable to connect to the target|examination failed|init mode failed", PROBE),
        (
            r"\*\* Programming Failed \*\*|failed erasing|error writing|flash write.*failed|timed? ?out waiting for "
            r"flash",
            WRITE,
        ),
    ),
    programs=("openocd",),
    package="sudo apt-get install openocd",
)
