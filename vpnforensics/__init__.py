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
    from vpnforensics.casework import correlate as correlate
    from vpnforensics.packets.read import read_capture as read_capture
    from vpnforensics.packets.table import PacketTable as PacketTable
    from vpnforensics.report.result import CaseResult as CaseResult

__all__ = ["CaseResult", "PacketTable", "__version__", "correlate", "read_capture"]

# Names are loaded when first used, so that importing the package stays light.
_HOMES = {
    "CaseResult": "vpnforensics.report.result",
    "PacketTable": "vpnforensics.packets.table",
    "correlate": "vpnforensics.casework",
    "read_capture": "vpnforensics.packets.read",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
