"""An extension of griffe: references in docstrings, written for Sphinx, as code in Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|func|class|meth|data|attr|exc):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Takes ``:func:`` and the like away."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """As soon as an object is read."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
