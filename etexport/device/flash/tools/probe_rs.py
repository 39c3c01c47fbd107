"""probe-rs: the chip's name is in the board's file."""

from etexport.device.flash.tool import CHIP, PROBE, VERIFY, WRITE, Job, Tool
from etexport.errors import BoardError


def command(job: Job) -> tuple[str, ...]:
    attach = job.board.attach
    if attach is None or not attach.probe_rs:
        raise BoardError(
            "'attach.probe_rs' is missing",
            where=job.board.name,
            hint='probe_rs = "nRF52840_xxAA", of `probe-rs chip list`',
        )
    return ("probe-rs", "download", "--chip", attach.probe_rs, "--verify", "--non-interactive", str(job.image))


TOOL = Tool(
    "probe-rs",
    "elf",
    command,
    signs=(
        (r"no (debug )?probes? (was|were) found|probe.*not found|failed to open", PROBE),
        (r"chip .*(not found|mismatch)|does not match|unexpected target|wrong chip", CHIP),
        (r"verif\w* failed|contents .*(differ|not match)", VERIFY),
        (r"flashing procedure failed|failed to (erase|program|flash)|error while flashing", WRITE),
    ),
    programs=("probe-rs",),
    package="cargo install probe-rs-tools",
)
