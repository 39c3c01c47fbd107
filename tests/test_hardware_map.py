"""The file of `pytest --hardware-map`: every mistake in it is named, and which board a test may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from etexport.device.port import SerialPort
from etexport.errors import EtError
from tests import hardware_map
from tests.hardware_map import Entry, read_map, unfit


def listed(folder: Path, text: str) -> Path:
    path = folder / "boards.toml"
    path.write_text(text)
    return path


def test_what_it_says(tmp_path: Path) -> None:
    path = listed(
        tmp_path,
        '[[board]]\nname = "rpi_pico"\nserial = "A1"\n[[board]]\nname = "rpi_pico"\nport = "socket://farm:5000"\nlacks '
        '= ["counter"]',
    )
    assert read_map(path) == (
        Entry("rpi_pico", serial="A1"),
        Entry("rpi_pico", port="socket://farm:5000", lacks=("counter",)),
    )
    assert [str(entry) for entry in read_map(path)] == ["rpi_pico-A1", "rpi_pico-socket://farm:5000"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[board]]", "board 1: 'name' is missing"),
        ('[[board]]\nname = "nucleo"', "no board is called 'nucleo'"),
        ('[[board]]\nname = "host"\nspeed = "1"', "unknown key 'speed'"),
        ('[[board]]\nname = "host"\nport = 3', "'port' is 3, which is no text"),
        ('[[board]]\nname = "host"\nlacks = ["money"]', "'lacks' is \\['money'\\](.|\n)*a list of: counter"),
        ('[[board]]\nname = "host"\n[[board]]\nname = "host"', "two entries are host"),
        ('board = "host"', "is no list of boards"),
        ("", "is no list of boards"),
        ("[", "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(EtError, match=said):
        read_map(listed(tmp_path, text))


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(EtError, match=r"'spead'(.|\n)*'name' is missing(.|\n)*no board is called 'x'"):
        read_map(listed(tmp_path, '[[board]]\nspead = "1"\n[[board]]\nname = "x"'))


def test_a_port_is_found_by_its_serial_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The HiFive has two ports behind one number; its file says which is the board's."""
    ports = tuple(SerialPort(f"/dev/ttyACM{n}", "1366:1051", number, "") for n, number in enumerate(("B", "A", "A")))
    monkeypatch.setattr(hardware_map, "serial_ports", lambda: ports)
    assert (
        Entry("nrf52840_dk", serial="A").url == "/dev/ttyACM1"
        and Entry("nrf52840_dk", port="/dev/x", serial="A").url == "/dev/x"
    )
    assert Entry("nrf52840_dk").url == ""
    with pytest.raises(EtError, match=r"no port has serial number C(.|\n)*/dev/ttyACM0 \(B\)"):
        _ = Entry("nrf52840_dk", serial="C").url


def test_which_board_a_test_may_have() -> None:
    assert not unfit(Entry("st_nucleo_f446re", port="/dev/x"), ("st_*",), ("counter",)), "on the board the counter runs"
    assert unfit(Entry("st_nucleo_f446re"), (), ("counter",)) == "st_nucleo_f446re lacks a counter", (
        "in the simulator it does not"
    )
    assert unfit(Entry("host", lacks=("counter",)), (), ("counter",)) == "host lacks a counter" and not unfit(
        Entry("host", lacks=("counter",)), (), ()
    )
    assert unfit(Entry("host"), ("st_*", "rpi_pico"), ()) == "not for host: the test is for st_*, rpi_pico"
