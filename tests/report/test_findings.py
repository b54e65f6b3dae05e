from tests.small_case import HEALTH
from vpnforensics.capture.health import CaptureHealth
from vpnforensics.report.findings import findings


def test_a_sound_capture_has_no_findings():
    assert findings(CaptureHealth().to_dict()) == []


def test_every_count_has_words():
    quiet = {"first_damage_offset"}
    for key in set(CaptureHealth().to_dict()) - quiet:
        found = findings({**HEALTH, key: 3})
        assert len(found) == 1, key
        assert "3" in found[0].text


def test_damage_comes_first_and_says_where():
    found = findings({**HEALTH, "non_ip": 1, "cut_tail_bytes": 77, "first_damage_offset": 1234})
    assert [f.severity for f in found] == ["damage", "note"]
    assert "77 bytes unreadable from byte 1,234" in found[0].text


def test_what_is_damage_is_what_strict_refuses():
    for key in set(CaptureHealth().to_dict()) - {"first_damage_offset"}:
        damage = any(f.severity == "damage" for f in findings({**HEALTH, key: 1}))
        assert damage == CaptureHealth(**{key: 1}).damaged, key
