"""The form of wg-quick's files: sections, and in them keys with values, each asked for once.

No error here repeats a line, or a value that may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator

from vpnforensics.errors import TunnelError

_REPORTED = {
    "dns": "is not applied: set the resolver yourself",
    "preup": "is a shell command and is not run",
    "postup": "is a shell command and is not run",
    "predown": "is a shell command and is not run",
    "postdown": "is a shell command and is not run",
    "saveconfig": "is ignored: this program never writes its configuration",
}

_LONGEST_KEY = 24
"""The keys of wg-quick and ours are letters, and fewer; what is longer may be a secret without its key."""


class Section:
    """Keys of one section, each asked for once; what nobody asked for is an error."""

    def __init__(self, title: str, line: int) -> None:
        self.title = title
        self.line = line
        self._values: dict[str, list[str]] = {}

    def add(self, key: str, value: str) -> None:
        """Note one more line of a key, which is in small letters."""
        self._values.setdefault(key, []).append(value)

    def one(self, key: str, default: str | None = None) -> str | None:
        """Value of a key that may stand once."""
        values = self._values.pop(key, None)
        if values is None:
            return default
        if len(values) > 1:
            raise TunnelError(f"[{self.title}] in line {self.line}: {key} stands twice")
        if not values[0]:
            raise TunnelError(f"[{self.title}] in line {self.line}: {key} has no value")
        return values[0]

    def required(self, key: str) -> str:
        """Value of a key that must stand once."""
        value = self.one(key)
        if value is None:
            raise TunnelError(f"[{self.title}] in line {self.line}: {key} is missing")
        return value

    def many(self, key: str) -> list[str]:
        """Values between commas, of all lines of a key."""
        lines = self._values.pop(key, [])
        return [part.strip() for line in lines for part in line.split(",") if part.strip()]

    def number(self, key: str, low: float, high: float) -> float:
        """0 where the key is missing."""
        text = self.one(key, "0") or ""
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if value != 0 and not low <= value <= high:
            raise TunnelError(f"{key} = {text[:40]!r}: expected a number from {low:g} to {high:g}")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        """0 where the key is missing; hexadecimal if it begins with 0x, as `wg` has marks."""
        text = self.one(key, "0") or ""
        try:
            value = int(text, 0)
        except ValueError:
            value = -1
        if value != 0 and not low <= value <= high:
            raise TunnelError(f"{key} = {text[:40]!r}: expected a whole number from {low} to {high}")
        return value

    def switch(self, key: str, default: str) -> bool:
        """Whether a key is on."""
        text = (self.one(key, default) or default).lower()
        if text not in ("on", "off", "true", "false"):
            raise TunnelError(f"{key} = {text!r}: expected on or off")
        return text in ("on", "true")

    def reported(self) -> Iterator[str]:
        """What is asked for and not done, and why."""
        for key, why in _REPORTED.items():
            if key in self._values:
                del self._values[key]
                yield f"{key} {why}"

    def finish(self) -> None:
        """Check that nothing is left that nobody asked for."""
        if not self._values:
            return
        key = min(self._values)
        # A private key alone in its line ends in "=", too.
        shown = (
            repr(key)
            if key.replace(" ", "").isalpha() and len(key) <= _LONGEST_KEY
            else "(not shown: it may be a secret)"
        )
        raise TunnelError(f"[{self.title}] in line {self.line}: unknown key {shown}")


def sections(text: str) -> list[Section]:
    """Sections of a file, in order; titles and keys in small letters.

    Raises
    ------
    TunnelError
        A line is neither a title nor a key with a value.
    """
    found: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            found.append(Section(line[1:-1].strip().lower(), number))
            continue
        key, separator, value = line.partition("=")
        if not separator or not found:
            # The line is not shown: it may be a private key whose name was mistyped.
            raise TunnelError(f"line {number} is neither a section nor a key with a value")
        found[-1].add(key.strip().lower(), value.strip())
    return found
