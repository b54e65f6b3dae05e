"""The reference tunnel: a real VPN, WireGuard on the wire, that journals its own truth.

Read it from the bottom up:

core, sans-IO (bytes and ``now`` in, bytes and events out)
    ``keys`` and ``crypto`` (primitives), ``wire`` (messages), ``handshake`` (Noise IKpsk2), ``cookie``
    (MACs and flood defence), ``replay`` (RFC 6479), ``session`` (transport data), ``timers``,
    ``routing`` (allowed IPs), ``peers``, ``handshakes`` (with all of them), ``talks`` (what is said,
    and when), ``device`` (all of it, tied together), ``events`` (what it has to say), ``drops`` (what
    it refuses, counted).
rim, Linux only
    ``config`` (wg-quick files), ``tun``, ``udp``, ``tcp``, ``_kernels`` (segmentation), ``outbound`` and
    ``inbound`` (the two directions of traffic), ``network`` (addresses, routes, NAT), ``service``
    (the epoll loop), ``control`` and ``status`` (``show`` and ``down``).
what makes it a forensic instrument
    ``journal`` and ``journal_*`` (one row a packet), ``usage`` (connection log, off by default),
    ``shaping``, ``cover`` and ``scrub`` (countermeasures).
"""
