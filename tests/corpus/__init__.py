"""A corpus of tiny captures, crafted from the specifications: VPNs, what comes close to one, and damage.

Each family of protocols is a module with a function ``specimens()``. A specimen is the bytes of a capture (or
of two), and beside them what its generator wrote: the truth. Nothing here is anybody's traffic: addresses are
those of documentation (RFC 5737, RFC 3849), what would be encrypted is random, and the same code gives the
same bytes.
"""
