"""Vectors of https://github.com/corelight/community-id-spec (baseline, default seed)."""

from __future__ import annotations

import ipaddress

import pytest

from vpnforensics.flows.community_id import community_id

VECTORS = [
    ("128.232.110.120", "66.35.250.204", 6, 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("66.35.250.204", "128.232.110.120", 6, 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("192.168.1.52", "8.8.8.8", 17, 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("8.8.8.8", "192.168.1.52", 17, 53, 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("192.168.0.89", "192.168.0.1", 1, 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("192.168.0.1", "192.168.0.89", 1, 0, 8, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 58, 135, 0, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    ("3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 58, 3, 0, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
]


@pytest.mark.parametrize(("src", "dst", "proto", "sport", "dport", "expected"), VECTORS)
def test_published_vectors(src: str, dst: str, proto: int, sport: int, dport: int, expected: str) -> None:
    packed = (ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed)
    assert community_id(*packed, proto, sport, dport) == expected


def test_seed_changes_the_id() -> None:
    packed = (ipaddress.ip_address("192.168.1.52").packed, ipaddress.ip_address("8.8.8.8").packed)
    assert community_id(*packed, 17, 54585, 53, seed=1) != community_id(*packed, 17, 54585, 53)
