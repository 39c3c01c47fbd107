"""A board file of PlatformIO (`boards/<name>.json` of a platform) as the draft of one of ours.

It has names, sizes and what flashes the board; it has no addresses, pins, clocks, UART or causes of a reset, and some
of what it has is not what we need: `f_cpu` is the chip's fastest clock, `hwids` are often those of the Arduino core's
own USB. What is missing is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etexport.errors import BoardError


@dataclass(frozen=True)
class _Core:
    name: str
    features: tuple[str, ...]
    flags: tuple[str, ...]


_ARM = {
    "cortex-m0": _Core("Cortex-M0", ("arm",), ("-mcpu=cortex-m0", "-mthumb")),
    "cortex-m0plus": _Core("Cortex-M0+", ("arm",), ("-mcpu=cortex-m0plus", "-mthumb")),
    "cortex-m3": _Core("Cortex-M3", ("arm", "thumb2"), ("-mcpu=cortex-m3", "-mthumb")),
    "cortex-m4": _Core("Cortex-M4", ("arm", "thumb2", "dsp"), ("-mcpu=cortex-m4", "-mthumb")),
    "cortex-m7": _Core("Cortex-M7", ("arm", "thumb2", "dsp"), ("-mcpu=cortex-m7", "-mthumb")),
    "cortex-m33": _Core("Cortex-M33", ("arm", "thumb2", "dsp"), ("-mcpu=cortex-m33", "-mthumb")),
}
_FPU = 'whether the core has a floating point unit: then "fpu" in features, -mfloat-abi=hard and -mfpu=... in flags'
_PROTOCOLS = {"stlink": "openocd", "cmsis-dap": "openocd", "jlink": "openocd", "picotool": "picotool", "mbed": "copy"}
_UNKNOWN = '"?"'


def draft(path: Path) -> tuple[str, tuple[str, ...]]:
    """The TOML, and what must be filled in: each has the value "?" or stands in a comment. BoardError for what is no
    such file."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BoardError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise BoardError(f"is not JSON: {error}", where=str(path)) from error
    build = table.get("build") if isinstance(table, dict) else None
    if not isinstance(build, dict) or not isinstance(table.get("name"), str):
        raise BoardError("is no board file of PlatformIO: 'name' or 'build' is missing", where=str(path))
    missing: list[str] = []
    try:
        text = "\n".join(_lines(path.stem, table, build, missing)) + "\n"
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BoardError(f"is no board file of PlatformIO: {error}", where=str(path)) from error
    return text, tuple(missing)


def _lines(name: str, table: Mapping[str, Any], build: Mapping[str, Any], missing: list[str]) -> Iterator[str]:
    core, prefix, package, arch = _core(build, missing)
    upload, debug = table.get("upload") or {}, table.get("debug") or {}
    vendor, title = str(table.get("vendor") or ""), table["name"]
    yield f"description = {_quoted(title if title.startswith(vendor) else f'{vendor} {title}')}"
    yield f"core = {_quoted(core.name)}"
    yield f"features = {_list(core.features)}"
    yield f"arch = {_quoted(arch)}"
    missing += ["uart: a file of firmware/uart/", "defines.ET_UART_ADDRESS", "counter.driver", "counter.unit"]
    yield f"uart = {_UNKNOWN}"
    yield "stack = 2048"
    yield f"\n[defines]\nET_UART_ADDRESS = {_UNKNOWN}"
    yield f"\n[toolchain]\nprefix = {_quoted(prefix)}\nflags = {_list(core.flags)}\npackage = {_quoted(package)}"
    for kind, key in (("flash", "maximum_size"), ("ram", "maximum_ram_size")):
        size = upload.get(key)
        missing.append(f"memory.{kind}.address; PlatformIO has one number for all memory of a kind")
        yield f'\n[[memory]]\nname = "{kind}"\nkind = "{kind}"\naddress = {_UNKNOWN}'
        yield f"size = {size}" if isinstance(size, int) else f"size = {_UNKNOWN}"
        if not isinstance(size, int):
            missing.append(f"memory.{kind}.size")
    yield f"\n[counter]\ndriver = {_UNKNOWN}\nunit = {_UNKNOWN}"
    fastest = str(build.get("f_cpu", "?")).rstrip("L")
    missing.append(f"[clock] and [pins]: PlatformIO has the fastest clock alone, {fastest} Hz")
    missing.append("[[reset_cause]]")
    yield "\n[attach]"
    usb = [f"{int(str(pair[0]), 16):04x}:{int(str(pair[1]), 16):04x}" for pair in build.get("hwids") or []]
    if usb:
        yield f"usb = {_list(usb)} # may be the Arduino core's own USB and not the debugger's"
    tools = list(
        dict.fromkeys(_PROTOCOLS[protocol] for protocol in upload.get("protocols") or [] if protocol in _PROTOCOLS)
    )
    if tools:
        yield f"flash = {_list(tools)}"
    if debug.get("openocd_board"):
        yield f"openocd = {_list(('-f', _config('board', debug['openocd_board'])))}"
    elif debug.get("openocd_target"):
        missing.append("attach.openocd: the file of the probe, interface/....cfg, before that of the chip")
        yield f"openocd = {_list(('-f', _config('target', debug['openocd_target'])))}"
    yield f"platformio = {_quoted(name)}"
    yield "\n[verified]\n# key = where it was read"


def _core(build: Mapping[str, Any], missing: list[str]) -> tuple[_Core, str, str, str]:
    """Core, prefix and packages of the compiler, and the folder of firmware/arch/."""
    arm = ("arm-none-eabi-", "gcc-arm-none-eabi libnewlib-arm-none-eabi", "cortex_m")
    cpu = str(build.get("cpu", ""))
    if cpu in _ARM:
        if cpu in ("cortex-m4", "cortex-m7", "cortex-m33"):
            missing.append(_FPU)
        return (_Core(_ARM[cpu].name, _ARM[cpu].features, (*_ARM[cpu].flags, "--specs=nano.specs")), *arm)
    if "march" in build:
        march, mabi = str(build["march"]).partition("_")[0], str(build.get("mabi", "ilp32"))
        core = _Core(
            march.upper(),
            ("riscv", *(("fpu",) if "f" in march[4:] else ())),
            ("-misa-spec=2.2", f"-march={march}", f"-mabi={mabi}"),
        )
        core = _Core(core.name, core.features, (*core.flags, "--specs=picolibc.specs"))
        return core, "riscv64-unknown-elf-", "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf", "riscv"
    missing.append(f"core, features, arch and toolchain: of the chip {build.get('mcu', '?')} the file says no core")
    return (_Core("?", ("arm",), ("-mthumb",)), *arm)


def _config(folder: str, name: str) -> str:
    return f"{folder}/{name.removesuffix('.cfg')}.cfg"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _list(texts: Any) -> str:
    return json.dumps(list(texts))
