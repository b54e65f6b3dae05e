"""How linkable an operator's users are, which fields leak, and what lowers it, measured on own captures.

``recording`` -> ``linkability`` (the same road as ``vpnf correlate``) -> ``leaks`` and ``copies`` (the
capture as it would have looked with a countermeasure) -> ``measures`` (what to set, and where) -> ``result``
-> ``view``, ``page``.

Theory of operation
-------------------
The capture is correlated as an adversary would who sees both sides. What it says of tunnels, length maps and
records is then used to make *counterfactual copies*: the same packets with a field blanked, with lengths
padded, held back in batches or sent at a constant rate. Each copy is correlated anew, from recognition to
verdict, and knows nothing of the original. The share of flows that is still linked is the measured effect.

What a copy cannot show: how the users' programs would have reacted. Programs that wait for an answer are held
back with it (:mod:`vpnforensics.audit.copies.pacing`), but no window grows, nothing is sent again, nobody
gives up. ``vpnf audit --countermeasures`` measures the same with real software.
"""
