"""Containment: each egress packet has its outer packet, of the right length, at the right time.

Theory of operation
-------------------
A VPN server turns one outer packet into one inner packet and back. Under H1 (this tunnel carried this flow)
an egress packet of length L at time t has a record of size m(L) in the tunnel at t - delay, the delay drawn
from the server's delay law g, but for a share ``miss`` of packets that a capture lost, larger where the
tunnel's counter says that it did (:mod:`vpnforensics.engines.holes`). Under H2 a record of
that size stands there by chance. The step of a packet is ::

    log(miss + (1 - miss) * X),    X = sum over records in reach of g(delay) / r

with r the tunnel's own chance rate around the record. X is 1 in the mean under H2 and large where the tunnel
has a record just there. The sum over records, rather than the best one, keeps bulk transfers honest: among
thousands of equal packets a second, which record was whose is unknowable, and the step is near zero
instead of strongly negative. A record serves one packet of a flow, so ten packets need ten records.

Packets come in bursts, and packets of a burst are not independent evidence. Two measures keep a burst from
counting more than once:

- the chance rate counts the *time* that records of a size occupy (each as wide as the delay law), not the
  records: a burst occupies little more than one packet. So X, which sums over the records of a burst, is
  divided by how many of them stand in reach, ``max(1, sum of g(delay) * width of g)``;
- an egress packet that follows one of its own flow and size within the delay law's width is no news. Found,
  it says nothing; not found, it speaks against the tunnel. A long transfer is news again every
  ``_RENEWAL_NS``.

What dependence remains is why only half of a score is believed where it places a flow, and why short flows
are left to the joint model (:mod:`vpnforensics.evidence.joint.model`), which reckons with what the others
need. The score is the sum of the steps over both directions, as a decimal logarithm.

A packet longer than any that the tunnels carry was cut on its way, or sent beside them: it says nothing.

Assumptions: one outer packet for one inner packet; a known or learned length map; aligned clocks.

Silent where no tunnel has records, no length map is known, or the clocks cannot be aligned.

Known weaknesses: strictly periodic equal packets beside a tunnel carrying the same kind of stream; padding
to one size, which leaves times only; jitter beyond the gaps between a tunnel's packets.

Flow correlation by learned similarity is Nasr, Bahramali & Houmansadr 2018 (DeepCorr, ACM CCS); the bounds
of timing jitter for correlating connections are Donoho et al. 2002 (RAID). Here one side contains the other,
packet by packet, and the score is a likelihood ratio from the start.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.align.classes import IN_PIECES, SizeClasses, classify_records
from vpnforensics.arrays import Bools, Int32s
from vpnforensics.engines._kernels import fresh_packets, rarest_packets
from vpnforensics.engines.case import USUAL_MISS, Case
from vpnforensics.engines.containment import PROBES, Containment, in_order
from vpnforensics.engines.delay_law import DelayLaw, estimate_delay_law, even_law, observed_delays
from vpnforensics.engines.holes import find_holes, usual_misses
from vpnforensics.engines.plain_flows import FAR_NS, TIMES, law_of_plain_flows
from vpnforensics.scratch import beside, blocks

NAME = "packets"

_RENEWAL_NS = 250_000_000
"""After so long a burst is news again: a long transfer is more than one."""
_MOST_MISS = 0.8
"""Share of packets missed, at most, of tunnels that are partly unread: where more are, little is said even
so."""


def prepare(case: Case, seen: Bools) -> Containment | None:
    """Size classes, delay law and local rates of a case; ``None`` where the engine has nothing to go on.

    Of egress packets whose records the ingress capture could not show (``seen``, shape (packets,)) none is
    looked for.
    """
    if not case.alignment.usable or not case.maps or not len(case.flows):
        return None
    classes = classify_records(case.tunnels.records, case.map_of_tunnel, case.maps)
    if not len(classes):
        return None
    egress = case.egress
    egress_class = tuple(
        classes.class_of(number, egress.inner_bytes, egress.up) for number in range(len(case.maps))
    )
    for per_map in egress_class:
        for rows in blocks(len(seen)):
            per_map[rows][~seen[rows]] = IN_PIECES
    law = estimate_delay_law(*observed_delays(classes, egress, egress_class))
    prepared = _under(law, case, classes, egress_class)
    if min(law.pairs):
        return prepared
    learned = _under(even_law(FAR_NS), case, classes, egress_class)
    for _ in range(TIMES):
        learned = _under(law_of_plain_flows(learned), case, classes, egress_class)
    return learned if min(learned.law.pairs) else prepared


def _under(law: DelayLaw, case: Case, classes: SizeClasses, egress_class: tuple[Int32s, ...]) -> Containment:
    """The case under a delay law."""
    egress = case.egress
    fresh = beside(egress.ts_ns).full(len(egress.ts_ns), 1, np.uint8)
    for per_map in egress_class:
        fresh_packets(egress.start, egress.ts_ns, per_map, len(classes), law.width_ns, _RENEWAL_NS, fresh)
    holes = find_holes(case.tunnels, (len(law.up) << law.step_bits) // 2)
    unread = min(max(USUAL_MISS, case.tunnels.lost_share), _MOST_MISS)
    return Containment(
        classes,
        egress,
        egress_class,
        fresh,
        tuple(rarest_packets(egress.start, c, fresh, classes.counts, PROBES) for c in egress_class),
        in_order(classes, law.width_ns, len(case.tunnels)),
        law,
        holes,
        usual_misses(USUAL_MISS, unread),
        len(case.tunnels),
        case.map_of_tunnel,
        case.circle,
    )
