"""gdb: any server of its protocol, as QEMU's (`-gdb tcp::3333`), a J-Link's or a Black Magic Probe's. What was loaded
is compared."""

from etexport.device.flash.tool import CHIP, PROBE, VERIFY, WRITE, Job, Tool
from etexport.errors import BoardError


def command(job: Job) -> tuple[str, ...]:
    if not job.place:
        raise BoardError("gdb has to be told where the debugger's port is", where=job.board.name, hint="--at HOST:PORT")
    steps = (
        "set confirm off", f"target remote {job.place}", "load", "compare-sections -r", "monitor system_reset",
        "maintenance flush register-cache", "detach",
    )  # fmt: skip
    return ("gdb-multiarch", "-batch", "-nx", *(word for step in steps for word in ("-ex", step)), str(job.image))


TOOL = Tool(
    "gdb",
    "elf",
    command,
    signs=(
        (r"connection (refused|timed out)|could not connect|no route to host|name or service not known", PROBE),
        (r"architecture .*rejected|'g' packet reply is too long|truncated register|is not compatible", CHIP),
        (r"MIS-MATCHED", VERIFY),
        (
            r"load failed|error (finishing|erasing|writing).*flash|cannot access memory|memory write failed|remote "
            r"connection closed",
            WRITE,
        ),
    ),
    programs=("gdb-multiarch", "gdb"),
    package="sudo apt-get install gdb-multiarch",
    success=r"Transfer rate",
)
