"""Counterfactual copies of a recording: the same packets, as they would have been under a countermeasure.

``belonging`` says which record carried which packet, as the audit's own correlation found it; ``change`` is
what a countermeasure is to this package, and a module each makes one kind: ``scrubbing`` (fields),
``padding`` (lengths), ``pacing`` (batches and constant rate), ``cover`` (the datagrams that fill the rate).
"""
