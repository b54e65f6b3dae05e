"""How good the evidence is: results on captures whose truth is known, and what they may be generalised to.

The data's way: :mod:`sessions` (folders with truth) -> :mod:`trials` (each worked on as a case, perhaps
damaged) -> :mod:`comparisons` (a row is a flow and a tunnel: true or not, and each method's likelihood ratio)
-> :mod:`metrics`, :mod:`curves`, :mod:`conditions`, :mod:`stated`, :mod:`worst` -> :mod:`report`. A method
to be compared is a function of a case (:data:`vpnforensics.validation.comparisons.Scorer`): its scores become
likelihood ratios on other sessions than they are judged on (:mod:`splits`).
"""
