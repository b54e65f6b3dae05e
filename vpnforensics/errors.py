"""Every error that a caller can be blamed for, or that a file can be blamed for.

Survivable damage in a capture is not an error: it is a finding in
:class:`vpnforensics.capture.health.CaptureHealth`.
"""

from __future__ import annotations

from pathlib import Path


class VpnForensicsError(Exception):
    """Base of all errors that this package raises on purpose."""


class CaptureError(VpnForensicsError):
    """A capture cannot be read.

    Parameters
    ----------
    path : str or Path
        The file (or ``-``) at fault.
    offset : int or None
        Byte offset of the fault in the (decompressed) file, if there is one.
    reason : str
        What is wrong, and the likely cause.
    """

    def __init__(self, path: str | Path, offset: int | None, reason: str) -> None:
        self.path = str(path)
        self.offset = offset
        self.reason = reason
        where = self.path if offset is None else f"{self.path}: byte {offset}"
        super().__init__(f"{where}: {reason}")


class NotACaptureError(CaptureError):
    """The file is not a pcap or pcapng capture."""


class UnsupportedLinkTypeError(CaptureError):
    """The capture is of a link type that is not decoded."""


class InsufficientDataError(VpnForensicsError):
    """An estimate was asked for from too few packets or too short a time."""


class CaseError(VpnForensicsError):
    """The two sides cannot form a case: no tunnels, no flows, or nothing in common."""


class LogError(VpnForensicsError):
    """A usage log cannot be read, or not as it was asked for."""


class ConversionError(VpnForensicsError):
    """Captures cannot be converted into the folder that was named."""


class SavedCaseError(VpnForensicsError):
    """A saved result cannot be opened: cut, edited, of another version, or something else.

    Parameters
    ----------
    path : str or Path
        The file at fault.
    reason : str
        What is wrong, and the likely cause.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")


class WorkersError(VpnForensicsError):
    """The workers of a cluster cannot be asked, or cannot do what they are asked for."""


class TunnelError(VpnForensicsError):
    """The reference tunnel cannot start or go on."""


class ScenarioError(VpnForensicsError):
    """A ground-truth scenario is impossible or cannot be run here."""


class PlugInError(VpnForensicsError):
    """A plug-in of another package does not work.

    Parameters
    ----------
    group : str
        Of entry points: what kind it is.
    name, package : str
        Its name, and the package that brings it, with version.
    reason : str
        What is wrong.
    """

    def __init__(self, group: str, name: str, package: str, reason: str) -> None:
        self.group, self.name, self.package, self.reason = group, name, package, reason
        kind = group.rpartition(".")[2].removesuffix("s")
        super().__init__(f"the {kind} {name!r} of {package} was set aside: {reason}")
