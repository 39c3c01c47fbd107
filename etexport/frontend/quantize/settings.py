"""How a network is quantised, as far as there is a choice: what a script's `<name>.quantize.toml` may say."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etexport.errors import EtError, ModelError, raise_all

RANGES = ("histogram", "minmax", "percentile")
"""`histogram`: the range with the least squared error. `minmax`: all that was seen. `percentile`: all but one value in
100,000."""

SUFFIX = ".quantize.toml"


@dataclass(frozen=True)
class Settings:
    """None: what samples that were held out say."""

    equalize: bool | None = None
    ranges: str | None = None
    correct_bias: bool | None = None
    keep_float: tuple[str, ...] = ()
    """What stays in float: module paths, lines of the script (`model.py:31`), names of operators."""


def path_of(script: Path) -> Path:
    """Where the settings of a script are: `model.quantize.toml` beside `model.py`."""
    return script.with_name(script.stem + SUFFIX)


def read(path: Path) -> Settings:
    """What the file says, nothing where there is none; ModelError for all that is wrong with it."""
    if not path.is_file():
        return Settings()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"is not TOML: {error}", where=str(path)) from error
    errors: list[EtError] = []
    for key, value in table.items():
        if key not in _KNOWN:
            errors.append(ModelError(f"nothing is called {key}", where=str(path), hint=f"known: {', '.join(_KNOWN)}"))
        elif not _is_right(key, value):
            errors.append(ModelError(f"{key} = {value!r}", where=str(path), hint=f"{key} is {_KNOWN[key]}"))
    raise_all(errors)
    return Settings(
        table.get("equalize"), table.get("ranges"), table.get("correct_bias"), tuple(table.get("keep_float", ()))
    )


_KNOWN = {
    "equalize": "true or false",
    "ranges": f"one of {', '.join(RANGES)}",
    "correct_bias": "true or false",
    "keep_float": "a list of module paths, lines of the script and names of operators",
}


def _is_right(key: str, value: Any) -> bool:
    if key == "ranges":
        return value in RANGES
    return _are_names(value) if key == "keep_float" else isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def text(settings: Settings, comments: tuple[str, ...] = ()) -> str:
    """The file that says this."""
    lines = [f"# {comment}" for comment in comments]
    for key in ("equalize", "ranges", "correct_bias", "keep_float"):
        value = getattr(settings, key)
        if value is not None and value != ():
            lines.append(
                f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}"
            )
    return "\n".join(lines) + "\n"
