from __future__ import annotations

import numpy as np
import pytest

from tests.tunnels import datagrams
from vpnforensics.packets.table import PROTO_TCP, PROTO_UDP
from vpnforensics.tunnels import dtls, esp, nebula, openvpn, tinc, tls, wireguard
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams

L = np.arange(20, 1400)
UDP_IP = 28


def sample(sizes, first=4, proto=PROTO_UDP):
    head = np.zeros((len(sizes), 32), np.uint8)
    head[:, 0] = first
    return Datagrams(np.array(sizes, np.int32), head, np.ones(len(sizes), np.bool_), proto, (1, 2))


def test_wireguard():
    (found,) = wireguard.length_maps(sample([1452]), "")
    assert np.array_equal(found.outer(L), 32 + np.minimum(1420, 16 * -(-L // 16)))
    (ragged,) = wireguard.length_maps(sample([32 + 1390]), "")
    assert ragged.outer(np.array([1389, 1390])).tolist() == [1422, 1422]


def test_openvpn():
    assert np.array_equal(openvpn.length_maps(sample([]), "data_v2")[0].outer(L), L + 24)
    assert np.array_equal(openvpn.length_maps(sample([]), "data_v1")[0].outer(L), L + 21)
    cbc = openvpn.length_maps(sample([]), "data_v2_cbc")
    for mac in (20, 32, 64):
        wanted = 4 + mac + 16 + 16 * ((4 + L) // 16) + 16
        assert any(np.array_equal(m.outer(L), wanted) for m in cbc[:6])


def test_esp():
    maps = esp.length_maps(sample([]), "")
    assert np.array_equal(maps[0].outer(L) + UDP_IP, 60 + 4 * -(-(L + 2) // 4))
    for icv in (12, 16):
        wanted = 8 + 16 + 16 * -(-(L + 2) // 16) + icv
        assert any(np.array_equal(m.outer(L), wanted) for m in maps)


@pytest.mark.parametrize(("iv", "block", "icv"), [(16, 16, 12), (16, 16, 16), (8, 4, 16)])
def test_l2tp_in_esp_has_udp_l2tp_and_ppp_before_each_packet(iv, block, icv):
    maps = esp.length_maps(sample([]), "")
    wanted = 8 + iv + block * -(-(L + 8 + 6 + 4 + 2) // block) + icv
    assert any(np.array_equal(m.outer(L), wanted) for m in maps)
    assert not any(np.array_equal(m.outer(L), wanted) for m in maps[:5])  # the tunnel's own come first


def test_dtls_nebula_and_tinc():
    assert np.array_equal(dtls.length_maps(sample([]), "")[0].outer(L) + UDP_IP, L + 66)
    assert np.array_equal(nebula.length_maps(sample([]), "")[0].outer(L) + UDP_IP, L + 60)
    assert np.array_equal(
        tinc.length_maps(sample([]), "")[0].outer(L) + UDP_IP, 32 + 16 * ((L + 18) // 16 + 1)
    )


@pytest.mark.parametrize(("variant", "extra"), [("tls1.3", 17), ("tls1.2_gcm", 24), ("tls1.2", 16)])
def test_tls(variant, extra):
    maps = tls.length_maps(sample([], proto=PROTO_TCP), variant)
    assert np.array_equal(maps[0].outer(L), L + 8 + extra)  # CSTP, and SSTP with its PPP header of four
    assert LengthMap(26 + extra) in maps  # OpenVPN behind stunnel
    assert len(set(maps)) == len(maps)


def test_tls_cbc():
    maps = tls.length_maps(sample([], proto=PROTO_TCP), "tls1.2_cbc")
    wanted = 16 + 16 * ((L + 8 + 20) // 16 + 1)  # IV; contents, SHA-1 and one to sixteen bytes of padding
    assert np.array_equal(maps[0].outer(L), wanted)


@pytest.mark.parametrize("name", datagrams.VPNS)
def test_vectors_obey_the_first_map_of_their_protocol(name):
    make, _, overhead = datagrams.VPNS[name]
    module = {"wireguard": wireguard, "openvpn": openvpn, "esp": esp, "nebula": nebula}[name]
    inner = np.array(datagrams.INNER)
    rng = datagrams.rng_of(name)
    sizes = {len(data) for _, data in make(rng, 300, 1000)}
    head = sample(sorted(sizes), first=4)
    assert sizes == set(module.length_maps(head, "data_v2")[0].outer(inner).tolist())
    assert min(sizes) >= overhead


def test_texts():
    assert str(LengthMap(24)) == "P = L + 24"
    assert str(LengthMap(32, 16, cap=1420)) == "P = 32 + min(1420, 16⌈L/16⌉)"
    assert LengthMap(32, 1420, cap=1420).kind == "padded"
    with pytest.raises(ValueError, match="at least 1"):
        LengthMap(1, 0)
