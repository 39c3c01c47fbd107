"""schema/program.fbs, which people read, and the tables of wire.py, which the code reads, say the same."""

from __future__ import annotations

import re
from pathlib import Path

from etexport.program import wire
from etexport.program.model import DType

TEXT = re.sub(r"//.*", "", (Path(__file__).parents[2] / "schema" / "program.fbs").read_text())
WORDS = {
    "byte": "i8",
    "ubyte": "u8",
    "int": "i32",
    "uint": "u32",
    "long": "i64",
    "ulong": "u64",
    "double": "f64",
    "bool": "bool",
    "string": "str",
}


def blocks(kind: str) -> dict[str, str]:
    return dict(re.findall(rf"^{kind} (\w+)(?:: \w+)? \{{(.*?)\}}", TEXT, re.MULTILINE | re.DOTALL))


def test_tables() -> None:
    enums = blocks("enum")

    def kind(text: str, align: str) -> str:
        if text.startswith("["):
            return f"[{kind(text[1:-1], '')}]{align}"
        return "i8" if text in enums else WORDS.get(text, text)

    found = {
        name: tuple(
            (field, kind(text, align) + default.replace(" ", ""))
            for field, text, default, align in re.findall(
                r"(\w+): ([\w\[\]]+)( = -1)?(?: \(force_align: (\d+)\))?;", body
            )
        )
        for name, body in blocks("table").items()
    }
    assert found == dict(wire.TABLES)


def test_unions() -> None:
    assert {name: tuple(re.findall(r"\w+", body)) for name, body in blocks("union").items()} == dict(wire.UNIONS)


def test_element_types() -> None:
    names = {
        "BYTE": "UINT8",
        "CHAR": "INT8",
        "SHORT": "INT16",
        "INT": "INT32",
        "LONG": "INT64",
        "FLOAT": "FLOAT32",
        "DOUBLE": "FLOAT64",
        "BOOL": "BOOL",
        "HALF": "FLOAT16",
        "BFLOAT16": "BFLOAT16",
    }
    codes = {name: int(code) for name, code in re.findall(r"(\w+) = (\d+)", blocks("enum")["ScalarType"])}
    assert {names[name]: code for name, code in codes.items() if name in names} == {
        dtype.name: dtype.code for dtype in DType
    }


def test_identifier() -> None:
    assert f'file_identifier "{wire.IDENTIFIER.decode()}";' in TEXT
