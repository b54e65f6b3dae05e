"""The report's style and script, as they stand in the page, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

SCRIPTS = ("page.js", "table.js", "pictures.js", "evidence.js", "main.js")
"""In the order in which they are put together: what is used comes first."""


def style() -> str:
    """The style sheet."""
    return _read("report.css")


def script() -> str:
    """The one script."""
    return '"use strict";\n(() => {\n' + "\n".join(map(_read, SCRIPTS)) + "})();\n"


def policy(*, of_style: str, of_script: str) -> str:
    """Content Security Policy: this style and script, and nothing from anywhere.

    https://www.w3.org/TR/CSP3/
    """
    parts = (
        "default-src 'none'",
        f"script-src '{_digest(of_script)}'",
        f"style-src '{_digest(of_style)}'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(parts)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return files("vpnforensics.report.html").joinpath(name).read_text(encoding="utf-8")
