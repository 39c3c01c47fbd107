"""st-flash of stlink-tools: ST-LINK and STM32 only."""

from etexport.device.flash.tool import CHIP, PROBE, VERIFY, WRITE, Job, Tool


def command(job: Job) -> tuple[str, ...]:
    return ("st-flash", "--connect-under-reset", "--reset", "write", str(job.image), f"0x{job.address:08x}")


TOOL = Tool(
    "st-flash",
    "bin",
    command,
    signs=(
        (r"couldn't find any st-link|no st-link|unable to (open|connect)|failed to connect", PROBE),
        (r"unknown chip id|unsupported chip|chip id .*(unknown|mismatch)|unsupported flash", CHIP),
        (r"verif\w* .*failed|verification (of flash )?failed|contents? differ", VERIFY),
        (r"failed to (write|erase)|write error|flash.*(locked|protected)", WRITE),
    ),
    programs=("st-flash",),
    package="sudo apt-get install stlink-tools",
)
