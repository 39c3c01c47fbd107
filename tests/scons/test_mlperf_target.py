"""`scons mlperf`: another image beside the firmware, and what it answers; and where the page is, as the last line of a
report."""

from __future__ import annotations

from pathlib import Path

from tests.scons.conftest import scons


def test_it_is_built_asked_and_shown_once(house: Path) -> None:
    words = ("BOARD=host", "MODEL=linear", "SAMPLES=3", "mlperf")
    done = scons(house, *words)
    assert done.code == 0, done.text
    folder = house / "build" / "host" / "linear-float32"
    assert (folder / "mlperf" / "firmware.elf").is_file()
    said = (folder / "mlperf.txt").read_text()
    assert "linear on host: 3 samples" in said and said in done.text and not {"PROFILE", "REPORT"} & set(done.verbs())
    again = scons(house, *words)
    assert again.code == 0 and again.verbs() == [] and said in again.text, again.text
    page = scons(house, "BOARD=host", "MODEL=linear", "SAMPLES=3")
    assert page.code == 0 and "build/host/linear-float32/report.html" in page.text.splitlines()[-2:], page.text[-800:]
