"""vpnforensics: which encrypted tunnel carried which decrypted flow, with evidence.

>>> import vpnforensics as vf
>>> case = vf.correlate("in.pcap", "out.pcap")  # doctest: +SKIP
>>> case.links  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vpnforensics._version import __version__

if TYPE_CHECKING:
    from vpnforensics import datasets, errors, samples
    from vpnforensics.correlation import correlate
    from vpnforensics.errors import (
        CaptureError,
        CaseError,
        ConversionError,
        InsufficientDataError,
        LogError,
        NotACaptureError,
        PlugInError,
        SavedCaseError,
        ScenarioError,
        TunnelError,
        UnsupportedLinkTypeError,
        VpnForensicsError,
        WorkersError,
    )
    from vpnforensics.logs.read import read_logs
    from vpnforensics.packets.folder.write import convert
    from vpnforensics.packets.read import read_capture
    from vpnforensics.packets.table import PacketTable
    from vpnforensics.report.result import CaseResult
    from vpnforensics.saved import open_case

# Names are loaded when first used, so that importing the package stays light.
_HOMES = {
    "CaseResult": "vpnforensics.report.result",
    "PacketTable": "vpnforensics.packets.table",
    "convert": "vpnforensics.packets.folder.write",
    "correlate": "vpnforensics.correlation",
    "open_case": "vpnforensics.saved",
    "read_capture": "vpnforensics.packets.read",
    "read_logs": "vpnforensics.logs.read",
    **dict.fromkeys(
        (
            "CaptureError",
            "CaseError",
            "ConversionError",
            "InsufficientDataError",
            "LogError",
            "NotACaptureError",
            "PlugInError",
            "SavedCaseError",
            "ScenarioError",
            "TunnelError",
            "UnsupportedLinkTypeError",
            "VpnForensicsError",
            "WorkersError",
        ),
        "vpnforensics.errors",
    ),
}
_MODULES = ("datasets", "errors", "samples")

__all__ = [
    "CaptureError",
    "CaseError",
    "CaseResult",
    "ConversionError",
    "InsufficientDataError",
    "LogError",
    "NotACaptureError",
    "PacketTable",
    "PlugInError",
    "SavedCaseError",
    "ScenarioError",
    "TunnelError",
    "UnsupportedLinkTypeError",
    "VpnForensicsError",
    "WorkersError",
    "__version__",
    "convert",
    "correlate",
    "datasets",
    "errors",
    "open_case",
    "read_capture",
    "read_logs",
    "samples",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"vpnforensics.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
