"""What is wrong with a capture, as data: every finding is counted, none is an exception."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class CaptureHealth:
    """Counts of what a reader should know before trusting a capture.

    All are frames unless the name says otherwise.
    """

    cut_tail_bytes: int = 0
    """Bytes at the end that are no whole record (a file cut while being written)."""
    damaged_records: int = 0
    """Records whose header lies (length beyond the file or beyond reason)."""
    snapped: int = 0
    """Frames captured shorter than they were on the wire."""
    cut_heads: int = 0
    """UDP and ESP packets captured without all of the first 16 payload bytes, where tunnels have headers."""
    cut_headers: int = 0
    """IP packets captured without all of their headers, TCP options apart: what is missing reads as zeros."""
    cut_options: int = 0
    """TCP segments captured without all of their options: no timestamps, no segment size."""
    out_of_order: int = 0
    """Frames whose time is before that of the frame before them."""
    time_jumps: int = 0
    """Steps of more than an hour, forward or back, between neighbouring frames."""
    duplicates: int = 0
    """IP packets equal to one at most 10 ms before them on the same interface, TCP resets excepted."""
    later_hops: int = 0
    """IP packets equal, but for a lower TTL, to one at most 10 ms before them: seen again behind a router."""
    non_ip: int = 0
    """Frames that carry no IP packet (ARP, LLDP, ...)."""
    malformed: int = 0
    """IP frames whose headers contradict themselves."""
    super_frames: int = 0
    """Captured packets longer than any link carries (GRO/TSO): many packets on the wire."""
    fragments: int = 0
    """IP fragments."""
    unwrapped: int = 0
    """Packets read out of the encapsulation that a tap put around them."""
    vxlan: int = 0
    """Packets in VXLAN that hold an IP packet and were left as they are; and so on."""
    geneve: int = 0
    gre: int = 0
    erspan: int = 0
    gtpu: int = 0
    unknown_blocks: int = 0
    """pcapng blocks of unknown type, skipped."""
    unsupported_linktype: int = 0
    """Frames of an interface whose link type is not decoded; counted as non-IP too."""
    untimed: int = 0
    """Frames whose record carries no time (pcapng simple packets); their time is 0."""
    skipped_files: int = 0
    """Files of a folder that are no captures."""
    skipped_folders: int = 0
    """Folders inside of a folder, not looked into."""
    copied_files: int = 0
    """Captures of a folder equal to one of the others, byte for byte: read once."""
    first_damage_offset: int = -1
    """Byte offset, in the decompressed file, of the first damage; -1 without damage."""

    def to_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)

    @property
    def damaged(self) -> bool:
        """True where packets were lost to damage: what ``--strict`` refuses."""
        return bool(self.cut_tail_bytes or self.damaged_records)
