"""Frames, zones, years, encodings and damage."""

import gzip
import json
import os
import random
import re
from datetime import date

import pytest
import zstandard

from vpnforensics.errors import LogError
from vpnforensics.logs.clock import first_year, zone_named
from vpnforensics.logs.framing import unframe
from vpnforensics.logs.read import read_logs

S = 1_000_000_000
DAY = 1_700_006_400 * S
"""2023-11-15 00:00:00 UTC."""
TEXT = "Accepted publickey for heidi from 198.51.100.9 port 40022 ssh2"
FRAMES = {
    "syslog": "Nov 15 10:00:00 vpn sshd[55]: ",
    "syslog with its priority": "<38>Nov 15 10:00:00 vpn sshd[55]: ",
    "short-precise": "Nov 15 10:00:00.000000 vpn sshd[55]: ",
    "RFC 5424": '<38>1 2023-11-15T10:00:00.0Z vpn sshd 55 - [x y="\\]\\"z"] ',
    "rsyslog": "2023-11-15T11:00:00.000000+01:00 vpn sshd[55]: ",
    "short-iso": "2023-11-15T05:00:00-0500 vpn sshd[55]: ",
    "short-full": "Wed 2023-11-15 10:00:00 UTC vpn sshd[55]: ",
    "asctime": "Wed Nov 15 10:00:00 2023 : ",
    "seconds": "1700042400.000 ",
    "plain": "2023-11-15 10:00:00 ",
    "a time in a time": "2023-11-15T10:00:00+00:00 vpn sshd[5]: 2023-11-15 12:00:00 ",
    "asctime in docker's": "2023-11-15T10:00:00.000000000Z Wed Nov 15 12:00:00 2023 ",
}


def read(tmp_path, text, **options):
    path = tmp_path / "log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_logs([path], **options)


@pytest.mark.parametrize("name", FRAMES)
def test_frames(tmp_path, name):
    (session,) = read(tmp_path, FRAMES[name] + TEXT + "\n", year=2023).sessions
    assert (session.user, session.begin_ns) == ("heidi", DAY + 36000 * S)


def test_journal_json(tmp_path):
    row = {"__REALTIME_TIMESTAMP": "1700042400000000", "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": TEXT}
    lines = [row, {**row, "MESSAGE": list(TEXT.replace("heidi", "h\xe9idi").replace("40022", "1").encode())}]
    book = read(tmp_path, "".join(json.dumps(line) + "\n" for line in lines))
    assert [(s.user, s.begin_ns) for s in book.sessions] == [
        ("heidi", DAY + 36000 * S),
        ("h\xe9idi", DAY + 36000 * S),
    ]


def test_zones_stated_given_and_assumed(tmp_path):
    line = FRAMES["plain"] + TEXT + "\n"
    assert read(tmp_path, line).files[0].clock == "assumed"
    book = read(tmp_path, line, zone="+02:00")
    assert (book.sessions[0].begin_ns, book.files[0].clock) == (DAY + 28800 * S, "given")
    assert read(tmp_path, FRAMES["rsyslog"] + TEXT + "\n").files[0].clock == "stated"
    for bad in ("Mars/Base", "+99:00", "../etc/passwd", "+2"):
        with pytest.raises(LogError, match="no time zone"):
            zone_named(bad)


def test_summer_time_ends_within_a_log(tmp_path):
    try:
        zone_named("Europe/Vienna")
    except LogError:
        pytest.skip("this machine has no zone data")
    text = "".join(f"2023-10-29 0{hour}:30:00 {TEXT.replace('40022', str(hour))}\n" for hour in (1, 4))
    first, second = read(tmp_path, text, zone="Europe/Vienna").sessions
    assert second.begin_ns - first.begin_ns == 4 * 3600 * S


def test_years_roll_over(tmp_path):
    days = ("Nov 15", "Dec 31", "Jan  1", "Feb 29", "Dec 31", "Jan  2")
    text = "".join(
        f"{day} 10:00:0{n} vpn sshd[5]: {TEXT.replace('40022', str(n + 1))}\n" for n, day in enumerate(days)
    )
    path = tmp_path / "log"
    path.write_text(text)
    os.utime(path, (1_735_900_000, 1_735_900_000))  # 2025-01-03
    for options in ({}, {"year": 2025}, {"near_ns": 1_718_000_000 * S}):
        book = read_logs([path], **options)
        assert len(book.sessions) == 6
        assert book.sessions[0].begin_ns == DAY + 36000 * S
        assert book.sessions[-1].begin_ns == 1_735_812_005 * S
    assert any(
        "leave out the year: 2025 at its end, by the file's date" in n
        for n in read_logs([path]).files[0].notes
    )


def test_the_year_by_a_capture():
    inside = date(2024, 1, 2)
    assert first_year((3, 1), (11, 1), 1, inside, exact=True) == 2023
    assert first_year((12, 20), (12, 1), 0, inside, exact=True) == 2023
    assert first_year((1, 20), (1, 1), 0, date(2023, 12, 30), exact=True) == 2024
    assert first_year((1, 3), (1, 1), 0, inside, exact=False) == 2024
    assert first_year((1, 20), (1, 1), 0, inside, exact=False) == 2023


@pytest.mark.parametrize(
    "stored",
    [
        lambda text: gzip.compress(text.encode()),
        lambda text: zstandard.ZstdCompressor().compress(text.encode()),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["gzip", "zstd", "UTF-16", "CRLF"],
)
def test_stored_otherwise(tmp_path, stored):
    text = FRAMES["plain"] + TEXT + "\n"
    (session,) = read(tmp_path, stored(text)).sessions
    assert session.user == "heidi"


def test_a_cut_archive_is_said_and_what_came_before_is_kept(tmp_path):
    rng = random.Random(1)
    text = FRAMES["plain"] + TEXT + "\n" + "".join(f"{rng.random()}\n" for _ in range(9000))
    book = read(tmp_path, gzip.compress(text.encode())[:-2000])
    assert len(book.sessions) == 1
    assert any("cannot be read after line" in note for note in book.files[0].notes)
    book = read(tmp_path, zstandard.ZstdCompressor().compress(text.encode())[:-2000])
    assert len(book.sessions) == 1


def test_what_is_no_log_is_counted(tmp_path):
    rng = random.Random(2)
    book = read(tmp_path, b"\n".join(rng.randbytes(rng.randrange(1, 200)) for _ in range(2000)))
    assert not book.sessions
    assert book.files[0].unknown > 1500
    book = read(tmp_path, b"x" * 300_000 + b"\n")
    assert (book.files[0].lines, book.files[0].unknown) == (5, 5)
    assert read(tmp_path, b"").files[0].lines == 0


def test_events_without_any_time_are_said(tmp_path):
    book = read(tmp_path, f"sshd[5]: nothing\n{TEXT}\n")
    assert not book.sessions
    assert any("have no time" in note for note in book.files[0].notes)


def test_impossible_dates(tmp_path):
    book = read(tmp_path, f"2023-02-30 10:00:00 {TEXT}\nFeb 31 10:00:00 vpn sshd[1]: {TEXT}\n")
    assert not book.sessions


def test_changed_lines_never_fail(tmp_path):
    """Ten thousand lines of all formats with bytes changed, dropped and doubled."""
    from tests.logs.test_formats import KERNEL, RADIUS, STRONGSWAN
    from tests.logs.test_recorded import FOLDER, TRUTH

    rng = random.Random(3)
    lines = [line for name in [*TRUTH, "conntrack.log"] for line in (FOLDER / name).read_bytes().split(b"\n")]
    lines += (STRONGSWAN + RADIUS + KERNEL).encode().split(b"\n")
    changed = []
    for _ in range(10_000):
        line = bytearray(rng.choice(lines))
        for _ in range(rng.randrange(4)):
            if line:
                at = rng.randrange(len(line))
                line[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        changed.append(bytes(line))
    book = read(tmp_path, b"\n".join(changed))
    assert book.files[0].lines >= 10_000
    json.dumps(book.to_dict())
    assert len(book.to_pandas()) == len(book.sessions)


def test_lines_made_to_be_slow(tmp_path):
    """What makes a careless pattern try all ways, as long as lines may be and longer."""
    starts = (
        "a/b Peer Connection Initiated with ", "IKE_SA ", "CHILD_SA a{1} established with SPIs ", "main[",
        "wireguard: ", "Accepted x for ", "Disconnected from user ", "    [NEW] tcp 6 ", "closing CHILD_SA ",
        "Connection with ",
    )  # fmt: skip
    fills = ("/", "[", "] ", "]: ", "x ", " from ", " port ", "src= dst= ", " and TS ", " to peer ", "{1} ")
    bodies = [(start + fill * 2000)[:size] for start in starts for fill in fills for size in (2000, 60_000)]
    lines = [f"2023-11-15 10:00:00 {body}" for body in bodies]
    lines += [fill * 2000 + " MULTI: SIG received, floated from " for fill in fills]
    book = read(tmp_path, "\n".join(lines))
    assert not book.sessions


def test_numbers_that_no_server_counts(tmp_path):
    """Digits without end, in each place where a number stands, are damage."""
    from tests.logs.test_formats import KERNEL, RADIUS, STRONGSWAN
    from tests.logs.test_recorded import FOLDER, TRUTH

    lines = [line for name in [*TRUTH, "conntrack.log"] for line in (FOLDER / name).read_text().splitlines()]
    lines += (STRONGSWAN + RADIUS + KERNEL).splitlines()
    text = []
    for line in dict.fromkeys(lines):
        for found in re.finditer(r"\d+", line):
            text += [
                line[: found.start()] + digits + line[found.end() :] for digits in ("9" * 19, "9" * 5000)
            ]
    book = read(tmp_path, "\n".join(text))
    assert len(book.to_pandas()) == len(book.sessions)
    json.dumps(book.to_dict())


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(LogError, match="cannot be read"):
            read_logs([path])


def test_frames_of_nothing():
    for text in ("", " ", "{", '{"MESSAGE": 1}', "[", "<9", "<34>1 ", "Foo 12 10:00:00 ", "99999999999 x"):
        framed = unframe(text)
        assert framed.stamp is None or framed.text == "", text
