"""Games: a tag and a counter in front of state, in every width and order that games use."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import talk, written
from tests.corpus.specimen import Draft, Specimen


def _tagged(name: str, tag: bytes, counter: str, *, both: bool = True, before: bool = False) -> object:
    def write(draft: Draft) -> None:
        line, rng = talk(draft, 30101), draft.wire.rng
        number = {True: 17, False: 4_000}
        for _ in range(60):
            up = rng.random() < 0.5 if both else True
            number[up] += 1
            counted = struct.pack(counter, number[up])
            head = counted + tag if before else tag + counted
            line.say(up, head + rng.randbytes(rng.choice((24, 38, 61, 180))))

    write.__name__ = name
    return write


def _sealed(name: str, counter: str, sizes: tuple[int, ...]) -> object:
    """Encrypted state behind a session number of each direction, and a counter."""

    def write(draft: Draft) -> None:
        line, rng = talk(draft, 30102), draft.wire.rng
        session = {True: rng.randbytes(4), False: rng.randbytes(4)}
        number = {True: 17, False: 40}
        for _ in range(60):
            up = rng.random() < 0.5
            number[up] += 1
            line.say(up, session[up] + struct.pack(counter, number[up]) + rng.randbytes(rng.choice(sizes)))

    write.__name__ = name
    return write


def source_engine(draft: Draft) -> None:
    """Queries (https://developer.valvesoftware.com/wiki/Server_queries), then sequence and acknowledged."""
    line, rng = talk(draft, 27015, here=27005), draft.wire.rng
    line.up(b"\xff\xff\xff\xffTSource Engine Query\0")
    line.down(b"\xff\xff\xff\xffA" + rng.randbytes(4))
    line.up(b"\xff\xff\xff\xffTSource Engine Query\0" + rng.randbytes(4))
    line.down(b"\xff\xff\xff\xffI\x11" + rng.randbytes(120))
    number = {True: 1, False: 1}
    for _ in range(40):
        up = rng.random() < 0.5
        number[up] += 1
        line.say(
            up, struct.pack("<II", number[up], number[not up]) + b"\0" + rng.randbytes(rng.randrange(30, 300))
        )


def quake_like(draft: Draft) -> None:
    """Out-of-band words behind four 0xff, then a sequence number, and the client's port."""
    line, rng = talk(draft, 27960), draft.wire.rng
    line.up(b"\xff\xff\xff\xffgetchallenge")
    line.down(b"\xff\xff\xff\xffchallengeResponse 123456")
    line.up(b'\xff\xff\xff\xffconnect "\\protocol\\68\\qport\\4142"')
    line.down(b"\xff\xff\xff\xffconnectResponse")
    for number in range(1, 50):
        line.up(struct.pack("<IH", number, 4142) + rng.randbytes(28))
        line.down(struct.pack("<I", number) + rng.randbytes(120))


_RAKNET_MAGIC = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")


def raknet_bedrock(draft: Draft) -> None:
    """Open connection requests and replies, then frame sets of a 24-bit counter (https://wiki.vg/Raknet_Protocol)."""
    line, rng = talk(draft, 19132), draft.wire.rng
    server = rng.randbytes(8)
    line.up(b"\5" + _RAKNET_MAGIC + b"\x0b" + bytes(1400))
    line.down(b"\6" + _RAKNET_MAGIC + server + b"\0" + struct.pack(">H", 1400))
    line.up(
        b"\7" + _RAKNET_MAGIC + b"\4\x3f\xff\xff\xfe\x4a\xbc" + struct.pack(">H", 1400) + rng.randbytes(8)
    )
    line.down(b"\x08" + _RAKNET_MAGIC + server + b"\4\x39\x9b\xcc\x57\xee\x22" + struct.pack(">HB", 1400, 0))
    number = {True: 0, False: 0}
    for _ in range(40):
        up = rng.random() < 0.5
        frame = struct.pack(">BHB", 0x60, 8 * 60, number[up] & 255) + b"\0\0" + rng.randbytes(60)
        line.say(up, b"\x84" + struct.pack("<I", number[up])[:3] + frame)
        number[up] += 1
        if rng.random() < 0.4:
            line.say(not up, b"\xc0\0\1\1" + struct.pack("<I", number[up])[:3])


def raknet_pings(draft: Draft) -> None:
    line, rng = talk(draft, 19132), draft.wire.rng
    for number in range(20):
        line.up(b"\1" + struct.pack(">Q", 1000 * number) + _RAKNET_MAGIC + rng.randbytes(8))
        line.down(
            b"\x1c"
            + struct.pack(">Q", 1000 * number)
            + rng.randbytes(8)
            + _RAKNET_MAGIC
            + b"\0\x20MCPE;example;527;1.19;0;10;1;a;"
        )


def enet_like(draft: Draft) -> None:
    """Peer id with flags, the time sent, then commands with reliable sequence numbers (enet, protocol.h)."""
    line, rng = talk(draft, 5055), draft.wire.rng
    for number in range(50):
        up = number % 2 == 0
        line.say(up, struct.pack(">HHBBH", 0x8001, number * 30 & 0xFFFF, 6, 0, number) + rng.randbytes(40))


def unreal_like(draft: Draft) -> None:
    """Packets of bits: a 14-bit number and what is acknowledged, no byte of them whole."""
    line, rng = talk(draft, 7777), draft.wire.rng
    for number in range(60):
        up = rng.random() < 0.5
        word = number << 18 | (number - 1 & 0x3FFF) << 4 | 3
        line.say(up, struct.pack("<I", word & 0xFFFFFFFF) + rng.randbytes(rng.randrange(12, 80)))


def specimens() -> Iterator[Specimen]:
    tag_32, tag_16 = b"\xa7\x03\x5c\x11", b"\xa7\x03"
    yield from written(
        "games",
        _tagged("game_tag_counter_32_be", tag_32, ">I"),
        _tagged("game_tag_counter_32_le", tag_32, "<I"),
        _tagged("game_tag_counter_16_be", tag_32, ">H"),
        _tagged("game_tag_counter_16_le", tag_16, "<H"),
        _tagged("game_tag_16_counter_32_be", tag_16, ">I"),
        _tagged("game_tag_counter_64_be", tag_32, ">Q"),
        _tagged("game_tag_counter_64_le", tag_32, "<Q"),
        _tagged("game_counter_before_tag", tag_32, ">I", before=True),
        _tagged("game_tag_counter_one_way", tag_32, ">I", both=False),
        _tagged("game_tag_word_4", b"\4\0\0\0", "<H"),  # a type of 4 in a word, then what is no index
        _tagged("game_tag_byte_0x48", b"\x48\0\0\x07", "<H"),
        _tagged("game_tag_byte_0x11", b"\x11\0\0\0", "<H"),
        _sealed("game_sealed_stream_cipher", ">I", (57, 63, 98, 201)),
        _sealed("game_sealed_blocks", ">I", (48, 64, 96, 208)),
        _sealed("game_sealed_blocks_le", "<I", (48, 64, 96, 208)),
        _sealed("game_sealed_64_le", "<Q", (57, 63, 98, 201)),
        source_engine, quake_like, raknet_bedrock, raknet_pings, enet_like, unreal_like,
    )  # type: ignore[arg-type]  # fmt: skip
