"""Trained baselines, small ones: a DeepCorr-style network and a DeepCoFFEA-style embedding.

Both are written anew after their papers, with fewer filters, so that they train in minutes on two cores; in
JAX, which comes with the ``networks`` extra. They are trained on simulated sessions
(``vpnf train-baselines``) apart from those judged: :func:`training.refuse_trained_on`. Weights are plain
arrays in an ``.npz`` file.

The data's way: :mod:`sequences` -> :mod:`deepcorr`, :mod:`deepcoffea` (both of :mod:`layers`) ->
:mod:`training` -> :mod:`weights`.
"""
