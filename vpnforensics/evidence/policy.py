"""The thresholds that verdicts hang on, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """What a verdict depends on besides the data; part of every result.

    Set on `tests/recordings` and three busier recordings of the lab, damaged as `make validate-errors` does
    it. How the joint model learns, and what bounds its work, stands in its modules.
    """

    expected_false_links: float = 0.01
    """Sum of the stated errors of all links of a case; one false link in a hundred cases. The user's."""
    strong: float = 12.0
    """Decimal logarithms by which a flow's score must exceed 0 and its score in any other tunnel to be
    placed before the joint model. At 20 a flow of a missing client less was placed wrongly on each of two
    sets of nine recordings, at three times the time in crowds; at 30 a tenth of the long ones was left to the
    model."""
    understated: float = 3.0
    """Times that small errors of the joint model are stated: more than two flows may have swapped, and
    clients load one page at one moment. Set on 18 recordings (small errors were a third of the wrong links
    observed, larger ones as many as were observed); what it does on others is in decision 2."""
    believed_untaught: float = 0.6
    """Share of log odds that is believed at most of volume where no link by writes has taught it (Tor). Set
    on six recordings at 0, 2 and 10 ms of jitter: at 0.8, three of seven fresh captures had a wrong link.
    What passes of nobody's flows may be met by several needs at once, for which no copy stands."""
    every_packet: int = 100
    """Packets of a flow up to which the joint model looks for all of them; of longer ones it leaves out those
    that only continue a burst."""
    sure: float = 1e-6
    """Error below which the joint model's flows leave with their records before the others are asked again.
    Larger, or more rounds, linked a little more, and stated smaller errors than were observed."""
    believed: float = 0.5
    """Share of the logarithm of a containment score, and of a lookup's ratio, that is evidence: packets of
    a burst are not independent, nor are clients who look up the like."""
    long: int = 10
    """Packets from which on a flow's error is at least what its containment score leaves to chance; every
    flow's of packets in a relay's writes. Without it, flows of a client whose tunnel was missing were linked
    at the least error; shorter ones lack such a score."""
    unread: float = 0.25
    """Share of a flow that its tunnel misses, as the counter says, from which on the score asks for too much.
    Of simulated OpenVPN over TCP, half of it unreadable, it took one in twelve of the links; single losses
    miss a few in a hundred."""
    least_error: float = 1e-7
    """No single link's error is stated smaller: the model is not better known. A case of 100,000 links
    cannot be stated to 0.01."""
    no_tunnel_chance: float = 1e-3
    """A flow is in no tunnel if each would have lost so much of it only this often."""
    decoy_share: float = 0.5
    """Decoys beside the flows of a case, as a share of them: more would compete with one another."""
    most_decoys: int = 2_000
    """Decoys at most: a rate of one in hundreds is seen by as many. Of 20,000 flows half as many decoys,
    which no record fits and the model is longest about, took twice the time of the case itself."""
    decoy_comparisons: int = 5_000
    """Comparisons of decoys with tunnels that are aimed at: they bound the likelihood ratios at 3.7 decimal
    logarithms, "strong support", where no others are known to be false."""
    decoy_rounds: int = 4
    """Attributions with decoys, at most; each takes as long as the case's own."""

    def to_dict(self) -> dict[str, float]:
        """The result contract's ``tool.policy``."""
        return asdict(self)
