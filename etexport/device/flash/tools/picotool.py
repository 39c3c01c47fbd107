"""picotool: an RP2 chip in BOOTSEL, over USB."""

from etexport.device.flash.tool import CHIP, PROBE, VERIFY, WRITE, Job, Tool


def command(job: Job) -> tuple[str, ...]:
    return ("picotool", "load", "--verify", "--execute", str(job.image))


TOOL = Tool(
    "picotool",
    "uf2",
    command,
    signs=(
        (r"no accessible rp\S* devices|unable to connect|was not found", PROBE),
        (r"family.*(cannot|not)|not compatible|wrong (chip|device)", CHIP),
        (r"verif\w* failed|contents differ|did not match", VERIFY),
        (r"error:|failed to (write|erase|program)", WRITE),
    ),
    programs=("picotool",),
    package="https://github.com/raspberrypi/picotool has it for most systems",
)
