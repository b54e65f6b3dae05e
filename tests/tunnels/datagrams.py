"""Datagrams of every protocol that is recognised, and of those that must not be."""

from __future__ import annotations

import struct

import numpy as np

INNER = (40, 52, 60, 120, 576, 1380)


def wireguard(rng, count, first=0):
    receiver = {True: rng.bytes(4), False: rng.bytes(4)}
    number = {True: first, False: first}
    out = []
    if not first:
        out = [(True, b"\1\0\0\0" + rng.bytes(144)), (False, b"\2\0\0\0" + rng.bytes(88))]
    for _ in range(count):
        up = bool(rng.random() < 0.5)
        inner = -(-int(rng.choice(INNER)) // 16) * 16
        out.append((up, b"\4\0\0\0" + receiver[up] + struct.pack("<Q", number[up]) + rng.bytes(inner + 16)))
        number[up] += 1
    return out


def openvpn(rng, count, first=0, *, version=2, tag=16):
    session = {True: rng.bytes(8), False: rng.bytes(8)}
    out, number = [], {True: first, False: first}
    if not first:
        answer = b"\1" + bytes(4) + session[True]
        out = [
            (True, b"\x38" + session[True] + bytes(5)),
            (False, b"\x40" + session[False] + answer + bytes(4)),
        ]
        for up, k in ((True, 1), (False, 1), (True, 2)):
            out.append((up, b"\x20" + session[up] + b"\0" + struct.pack(">I", k) + rng.bytes(195)))
    head = b"\x48\0\0\7" if version == 2 else b"\x30"
    for _ in range(count):
        up = bool(rng.random() < 0.5)
        number[up] += 1
        out.append((up, head + struct.pack(">I", number[up]) + rng.bytes(int(rng.choice(INNER)) + tag)))
    return out


def openvpn_cbc(rng, count, first=0):
    out = openvpn(rng, 0)
    for _ in range(count):
        size = 20 + 16 + 16 * ((4 + int(rng.choice(INNER))) // 16) + 16
        out.append((bool(rng.random() < 0.5), b"\x48\0\0\7" + rng.bytes(size)))
    return out


def esp(rng, count, first=0):
    spi = {True: rng.bytes(4), False: rng.bytes(4)}
    out, number = [], {True: first, False: first}
    if not first:
        out = [(up, bytes(4) + rng.bytes(17) + b"\x20" + rng.bytes(200)) for up in (True, False)]
    for _ in range(count):
        up = bool(rng.random() < 0.5)
        number[up] += 1
        size = 24 + 4 * -(-(int(rng.choice(INNER)) + 2) // 4)
        out.append((up, spi[up] + struct.pack(">I", number[up]) + rng.bytes(size)))
    return out


def nebula(rng, count, first=0):
    index = {True: rng.bytes(4), False: rng.bytes(4)}
    out, number = [], {True: first, False: first}
    for _ in range(count):
        up = bool(rng.random() < 0.5)
        number[up] += 1
        head = b"\x11\0\0\0" + index[up] + struct.pack(">Q", number[up])
        out.append((up, head + rng.bytes(int(rng.choice(INNER)) + 16)))
    return out


def dtls(rng, count, first=0):
    out, number = [], {True: first, False: first}
    for _ in range(count):
        up = bool(rng.random() < 0.5)
        number[up] += 1
        body = rng.bytes(8 + int(rng.choice(INNER)) + 17)
        head = b"\x17\xfe\xfd\0\1" + number[up].to_bytes(6, "big") + struct.pack(">H", len(body))
        out.append((up, head + body))
    return out


def tinc(rng, count, first=0):
    sizes = 4 + 16 * ((rng.choice(INNER, count) + 18) // 16 + 1)
    return [(bool(rng.random() < 0.5), rng.bytes(int(size))) for size in sizes]


def quic(rng, count):
    client, server = rng.bytes(8), rng.bytes(8)
    out = [(up, b"\xc3\0\0\0\1\x08" + client + b"\x08" + server + rng.bytes(1170)) for up in (True, False)]
    for _ in range(count):
        up = bool(rng.random() < 0.4)
        first = bytes([0x40 | int(rng.integers(0, 64))])
        out.append((up, first + (server if up else client) + rng.bytes(int(rng.integers(20, 1300)))))
    return out


def dns(rng, count):
    out = []
    for _ in range(count):
        number = rng.bytes(2)
        out.append((True, number + b"\1\0\0\1" + bytes(6) + rng.bytes(20)))
        out.append((False, number + b"\x81\x80\0\1\0\1" + bytes(4) + rng.bytes(60)))
    return out


def stun(rng, count):
    out = []
    for _ in range(count):
        number = rng.bytes(12)
        out.append((True, b"\0\1\0\x08\x21\x12\xa4\x42" + number + rng.bytes(8)))
        out.append((False, b"\1\1\0\x0c\x21\x12\xa4\x42" + number + rng.bytes(12)))
    return out


def rtp(rng, count):
    source = {True: rng.bytes(4), False: rng.bytes(4)}
    sides = [True, False] * (count // 2)
    return [
        (
            up,
            struct.pack(">BBHI", 0x80, 111, 500 + i, 960 * i)
            + source[up]
            + rng.bytes(int(rng.integers(60, 160))),
        )
        for i, up in enumerate(sides)
    ]


def utp(rng, count):
    ident = {True: b"\x10\1", False: b"\x10\2"}
    out = []
    for i in range(count):
        up = i % 3 == 0
        kind = b"\x21\0" if up else b"\1\0"
        times = rng.bytes(8) + struct.pack(">IHH", 1 << 20, 100 + i, 50 + i // 2)
        out.append((up, kind + ident[up] + times + (b"" if up else rng.bytes(1382))))
    return out


VPNS = {
    "wireguard": (wireguard, 51820, 32),
    "openvpn": (openvpn, 1194, 24),
    "esp": (esp, 4500, 24),
    "nebula": (nebula, 4242, 32),
}
PLAIN = {
    "quic": (quic, 443), "dns": (dns, 53), "stun": (stun, 3478), "rtp": (rtp, 40002),
    "utp": (utp, 51413), "dtls": (dtls, 5684),
}  # fmt: skip


def rng_of(name):
    return np.random.default_rng(sum(name.encode()))
