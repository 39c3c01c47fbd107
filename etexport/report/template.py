"""The pages' templates, rendered strictly, with what others named escaped."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(name: str, **data: object) -> str:
    return _templates().get_template(name).render(**data)


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("etexport.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
