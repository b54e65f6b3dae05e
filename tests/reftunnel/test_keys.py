import base64
import os
import pickle
import traceback

import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey, PublicKey, read_private
from vpnforensics.reftunnel.peers import PeerConfig

# RFC 7748, section 6.1 (https://www.rfc-editor.org/rfc/rfc7748#section-6.1)
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def test_public_keys_and_exchange_agree_with_rfc_7748():
    alice, bob = PrivateKey(ALICE), PrivateKey(BOB)
    assert alice.public.raw == ALICE_PUBLIC
    assert bob.public.raw == BOB_PUBLIC
    assert alice.exchange(bob.public) == bob.exchange(alice.public) == SHARED


def test_text_form_goes_round():
    key = PrivateKey.generate()
    assert PrivateKey.from_text(key.to_text() + "\n") == key
    assert PublicKey.from_text(str(key.public)) == key.public
    assert PresharedKey.from_text(base64.b64encode(b"p" * 32).decode()).reveal() == b"p" * 32


@pytest.mark.parametrize("kind", [PrivateKey, PresharedKey])
def test_secrets_do_not_show(kind):
    key = kind.generate()
    for shown in (repr(key), str(key), f"{key}", f"{key!r}", f"{[key]}", repr({"k": key})):
        assert key.to_text() not in shown
        assert key.reveal().hex() not in shown
        assert "hidden" in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_mistyped_secret_is_not_repeated_in_the_traceback():
    text = PrivateKey.generate().to_text()[:-3] + "!"
    try:
        PrivateKey.from_text(text)
    except TunnelError as error:
        shown = "".join(traceback.format_exception(error))
        assert text[:20] not in shown
    else:
        pytest.fail("accepted")


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 44, base64.b64encode(b"x" * 33).decode(), "é" * 44])
def test_wrong_texts_are_refused(text):
    with pytest.raises(TunnelError):
        PresharedKey.from_text(text)


def test_different_kinds_of_key_are_different():
    assert PresharedKey(b"\x40" * 32) != PrivateKey(b"\x40" * 32)
    assert len({PresharedKey(b"a" * 32), PresharedKey(b"a" * 32)}) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_files_that_others_can_open_are_refused(tmp_path, mode):
    path = tmp_path / "wg0.conf"
    path.write_text("x")
    path.chmod(mode)
    with pytest.raises(TunnelError, match="chmod 600"):
        read_private(path)
    path.chmod(0o600)
    assert read_private(path) == b"x"


def test_a_key_file_of_another_user_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "wg0.conf"
    path.touch(0o600)
    owner = path.stat().st_uid
    if os.geteuid() == 0:
        os.chown(path, 1234, -1)
        owner = 1234
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    monkeypatch.delenv("SUDO_UID", raising=False)
    with pytest.raises(TunnelError, match=f"number {owner}.*chown"):
        read_private(path)
    monkeypatch.setenv("SUDO_UID", str(owner))
    assert read_private(path) == b""


def test_a_key_file_that_is_a_pipe_or_a_folder_is_a_clear_error(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(TunnelError, match="no ordinary file"):
        read_private(tmp_path / "pipe")
    with pytest.raises(TunnelError, match="directory"):
        read_private(tmp_path)


SMALL_ORDER = [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]


@pytest.mark.parametrize("raw", SMALL_ORDER)
def test_a_public_key_that_protects_nothing_is_a_clear_error(raw):
    """A handshake with it cannot be made: it must be found before one is tried."""
    text = base64.b64encode(raw).decode()
    with pytest.raises(TunnelError, match="small order"):
        PublicKey.from_text(text)
    with pytest.raises(TunnelError, match="small order"):
        Device(PrivateKey.generate(), [PeerConfig(PublicKey(raw))], wall_ns=lambda _: 0)
