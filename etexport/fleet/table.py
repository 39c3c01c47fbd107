"""The rows as a file: CSV, and Parquet where pyarrow is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from etexport.artifacts.files import write_whole
from etexport.fleet.steps import Row


def write_table(out: Path, rows: Sequence[Row]) -> None:
    """`table.csv`, `table.parquet`: a line for each row; what is not known is empty."""
    text = io.StringIO()
    lines = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    lines.writeheader()
    lines.writerows(map(asdict, rows))
    write_whole(out / "table.csv", text.getvalue().encode())
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    content = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(map(asdict, rows))), content)
    write_whole(out / "table.parquet", content.getvalue().to_pybytes())
