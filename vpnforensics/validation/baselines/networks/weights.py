"""Weights in a file: arrays in numpy's ``.npz``, which holds numbers and text and runs nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vpnforensics.errors import CaseError
from vpnforensics.validation.baselines.networks.layers import Weights
from vpnforensics.validation.baselines.networks.training import Trained, shapes

_ABOUT = "about"
_MOST_BYTES = 16 << 20
"""Of one array, unpacked: ten times the largest there is."""


def save(path: Path, networks: Sequence[Trained]) -> None:
    """Write all networks into one file, which must be new.

    Raises
    ------
    FileExistsError
        It is there.
    """
    about = [
        {"name": each.name, "seconds": each.seconds, "steps": each.steps, "seed": each.seed,
         "sessions": list(each.sessions)}
        for each in networks
    ]  # fmt: skip
    arrays = {f"{each.name}/{key}": w for each in networks for key, w in each.weights.items()}
    with path.open("xb") as file:
        np.savez(file, **{_ABOUT: np.array(json.dumps(about)), **arrays})


def load(path: Path) -> list[Trained]:
    """The networks of a file.

    Raises
    ------
    CaseError
        It is no such file, or its arrays are not those of these networks.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            if any(each.file_size > _MOST_BYTES for each in packed.infolist()):
                raise ValueError("an array in it is too large for these networks")
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored[_ABOUT]))
            return [
                Trained(
                    str(row["name"]),
                    _weights(row["name"], stored),
                    float(row["seconds"]),
                    int(row["steps"]),
                    int(row["seed"]),
                    tuple(str(digest) for digest in row["sessions"]),
                )
                for row in about
            ]
    except FileNotFoundError:
        raise CaseError(f"{path}: there is no such file; `vpnf train-baselines` makes one") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CaseError(f"{path}: no weights of these networks: {error}") from error


def _weights(name: str, stored: np.lib.npyio.NpzFile) -> Weights:
    found: Weights = {}
    for key, shape in shapes(name).items():
        array = stored[f"{name}/{key}"]
        if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{name}/{key} is not {shape} finite numbers of 32 bits")
        found[key] = array
    return found
