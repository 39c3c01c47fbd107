"""Writes docs/operators.md from the kernel folders: `python -m tests.operators.document`. A test compares the page with
them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2

from etexport.kernel.cases import T
from etexport.kernel.library import Library, load_ops
from etexport.kernel.op import Layout, Op
from etexport.program.model import COMPUTED, DType

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"

LAYOUTS = {
    Layout.FOLLOW: "any dim order",
    Layout.CHANNELS_LAST: "channels last",
    Layout.CONTIGUOUS: "contiguous",
    Layout.VIEW: "an address, no code",
    Layout.PERMUTE: "an address, no code",
}

TEMPLATE = """\
# Operators

Made from the kernel folders by `python -m tests.operators.document`; a test keeps it true. Each row is one overload, named as ExecuTorch
names it. The cases below each family are what the tests run on the host and on every simulated core, beside drawn ones, with eager PyTorch
as the oracle. *Exact* results are PyTorch's bit for bit; the rest lie within 2e-6 of the largest result, times the root of the number of
terms that are added up. *In place* names operands whose memory the result may take over, *absorbs* what may follow for nothing.
{% for family in families %}

## {{ family.name }}

{{ family.about }}

| operator | element types | memory | in place | absorbs | exact |
|---|---|---|---|---|---|
{% for op in family.ops %}
| `{{ op.name }}` | {{ op.dtypes }} | {{ op.memory }} | {{ op.inplace }} | {{ op.absorbs }} | {{ op.exact }} |
{% endfor %}

{% for op in family.ops %}
`{{ op.schema }}`

{% for case in op.cases %}
- `({{ case.args }})`{{ ": " ~ case.note if case.note }}
{% endfor %}
{{ "\n" if not loop.last }}
{%- endfor %}
{% endfor %}
"""  # noqa: E501


def page(library: Library) -> str:
    """The text of docs/operators.md."""
    by_family: dict[str, list[Op]] = {}
    for op in library.ops.values():
        by_family.setdefault(op.family, []).append(op)
    families = [
        {"name": name, "about": _about(name, library), "ops": [_row(op) for op in ops]}
        for name, ops in sorted(by_family.items())
    ]
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(TEMPLATE).render(families=families)


def _about(family: str, library: Library) -> str:
    """What the folder's op.py, and the modules beside it that declare operators, say of themselves."""
    import ast

    folder = next(folder / family for folder in library.include_dirs if (folder / family / "op.py").is_file())
    others = sorted(path for path in folder.glob("*.py") if path.name != "op.py" and "\nOPS = [" in path.read_text())
    said = (ast.get_docstring(ast.parse(path.read_text())) or "" for path in (folder / "op.py", *others))
    return " ".join(" ".join(said).split())


def _row(op: Op) -> dict[str, Any]:
    folded = op.lower is None and op.layout not in (Layout.VIEW, Layout.PERMUTE)
    return {
        "name": op.name,
        "schema": op.schema,
        "dtypes": "all" if set(op.dtypes) >= set(COMPUTED) else ", ".join(dtype.name.lower() for dtype in op.dtypes),
        "memory": "no code, gone before the firmware" if folded else LAYOUTS[op.layout],
        "inplace": ", ".join(op.inplace),
        "absorbs": ", ".join(sorted(op.absorbs)),
        "exact": "yes" if op.exact else "",
        "cases": [{"args": ", ".join(_argument(arg) for arg in case.args), "note": case.note} for case in op.cases],
    }


def _argument(arg: Any) -> str:
    if isinstance(arg, tuple):
        return f"[{', '.join(_argument(item) for item in arg)}]"
    if isinstance(arg, float) and not math.isfinite(arg):
        return {math.inf: "inf", -math.inf: "-inf"}.get(arg, "nan")
    if not isinstance(arg, T):
        return repr(arg)
    dtype = "" if arg.dtype is DType.FLOAT32 else f"{arg.dtype.name.lower()} "
    order = f" in order {list(arg.dim_order)}" if arg.dim_order is not None else ""
    return f"{'constant ' if arg.constant else ''}{dtype}{list(arg.shape)}{order}"


if __name__ == "__main__":
    PAGE.write_text(page(load_ops()), encoding="utf-8")
