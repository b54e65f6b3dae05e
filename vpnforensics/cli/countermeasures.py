"""``vpnf audit --countermeasures``: the reference tunnel recorded with each of its switches.

Here and not in the audit: only the command line knows both the lab and the audit.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vpnforensics.audit.adversary import Adversary
from vpnforensics.audit.comparison import NONE, Comparison, Trial
from vpnforensics.audit.copies.belonging import Belonging, NoCopyError, belonging
from vpnforensics.audit.linkability import ALLOWED, Owners, measure, numbered
from vpnforensics.audit.measures import Measure, Strength, measures, pairs
from vpnforensics.audit.recording import Recording, read_recording
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.run import run as record
from vpnforensics.groundtruth.scenario import Countermeasures, Scenario, load
from vpnforensics.report.provenance import tool_row
from vpnforensics.sides import Progress

SCENARIO = Path(__file__).parents[1] / "groundtruth" / "countermeasures.yaml"


def switches(strength: Strength) -> dict[str, dict[str, Any]]:
    """How a scenario sets each countermeasure that the reference tunnel has."""
    return {
        "pad-block": {"padding": "block", "padding_bytes": strength.block_bytes},
        "pad-buckets": {"padding": "buckets", "padding_buckets": strength.bucket_bytes},
        "pad-mtu": {"padding": "mtu"},
        "batch": {"batch_ms": strength.batch_s * 1e3},
        "cover": {"cover_pps": strength.cover_hz},
        "scrub-timestamps": {"scrub_timestamps": True},
        "scrub-ip-id": {"scrub_ip_id": True},
        "ttl": {"normalise_ttl": strength.ttl},
    }


def wanted(strength: Strength, names: Sequence[str]) -> list[Measure]:
    """The countermeasures of these names, or every one that has a switch and every pair of them.

    Raises
    ------
    ValueError
        There is none of a name.
    """
    single = tuple(m for m in measures(strength) if m.name in switches(strength))
    every = {m.name: m for m in (*single, *pairs(single))}
    unknown = [name for name in names if name not in every]
    if unknown:
        raise ValueError(f"no countermeasure {', '.join(unknown)}; there are {', '.join(every)}")
    return [every[name] for name in names] if names else list(every.values())


def compare(
    scenario: Path,
    strength: Strength,
    chosen: Sequence[Measure],
    seeds: Iterable[int],
    keep: Path | None,
    *,
    seconds: float = 0.0,
    progress: Progress,
    argv: Sequence[str],
) -> Comparison:
    """Record a scenario without and with each countermeasure, and hold the audit's predictions against that.

    Parameters
    ----------
    scenario : Path
        Its own countermeasures are replaced.
    strength : Strength
    chosen : sequence of Measure
    seeds : iterable of int
    keep : Path or None
        Where recordings are kept; those that are there from an earlier run are used again.
    seconds : float
        Of each recording that are looked at, from its first packet at egress on; 0 for all.
    progress : callable
    argv : sequence of str

    Raises
    ------
    ScenarioError
        It cannot be recorded here.
    """
    trials: list[Trial] = []
    with _folder(keep) as folder:
        for seed in seeds:
            plain = load(scenario, seed=seed)
            if plain.vpn.kind != "reftunnel":
                raise ScenarioError(
                    f"{scenario}: vpn.kind: only reftunnel has the switches, not {plain.vpn.kind}"
                )
            for done, name in enumerate((NONE, *(m.name for m in chosen))):
                progress(f"recording, seed {seed}: {name}", done / (1 + len(chosen)))
                _recorded(_with(plain, name, strength), folder / f"seed-{seed}" / name)
            of_seed = folder / f"seed-{seed}"
            known, owners = _base(of_seed / NONE, seconds)
            trials.append(_trial(None, seed, *_read(of_seed / NONE, seconds), known, owners))
            for done, each in enumerate(chosen, start=1):
                progress(f"linking, seed {seed}: {each.name}", done / (1 + len(chosen)))
                trials.append(_trial(each, seed, *_read(of_seed / each.name, seconds), known, owners))
    return Comparison(
        tool_row({"strength": str(strength)}, {}, trials[0].seed, argv), plain.name, ALLOWED, tuple(trials)
    )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="vpnf-countermeasures-") as name:
        yield Path(name)


def _with(plain: Scenario, name: str, strength: Strength) -> Scenario:
    asked: dict[str, Any] = {}
    for part in () if name == NONE else name.split("+"):
        asked |= switches(strength)[part]
    return replace(plain, vpn=replace(plain.vpn, countermeasures=Countermeasures(**asked)))


def _recorded(scenario: Scenario, folder: Path) -> None:
    """Record, unless the same scenario lies there already.

    Raises
    ------
    ScenarioError
        Something else lies there.
    """
    manifest = folder / "manifest.json"
    if not manifest.exists():
        record(scenario, folder)
        return
    there = json.loads(manifest.read_text()).get("scenario")
    if there != json.loads(json.dumps(scenario.as_dict())):
        raise ScenarioError(f"{folder}: holds a recording of another scenario; name another folder")


def _read(folder: Path, seconds: float) -> tuple[Recording, Owners]:
    """A recording of the lab, whose sides one clock stamped, or its beginning, and each flow's client."""
    quiet: Progress = lambda step, share: None  # noqa: E731 - one line, used once
    recording, _ = read_recording(folder / "ingress.pcap", folder / "egress.pcap", quiet)
    if seconds:
        until_ns = int(recording.egress.ts_ns[0]) + round(seconds * 1e9)
        outer, inner = recording.ingress, recording.egress
        recording = Recording(outer.take(outer.ts_ns < until_ns), inner.take(inner.ts_ns < until_ns))
    flows = json.loads((folder / "truth.json").read_text())["flows"]
    flows.sort(key=lambda flow: flow["first_ns"])
    keys = numbered((flow["src"], flow["dst"]) for flow in flows)
    return recording, {key: flow["client"] for key, flow in zip(keys, flows, strict=True)}


def _base(folder: Path, seconds: float) -> tuple[Belonging, Owners]:
    recording, owners = _read(folder, seconds)
    return belonging(recording, Adversary().weigh(recording)), owners


def _trial(
    each: Measure | None, seed: int, recording: Recording, true: Owners, known: Belonging, owners: Owners
) -> Trial:
    """One recording, and the copy of the one without countermeasures that foretells it."""
    name = NONE if each is None else each.name
    best = Adversary(None if each is None else each.change.padding)
    recorded = measure(recording, best, owners=true)[1]
    unaligned = measure(recording, replace(best, knows_clocks=False), owners=true)[1]
    if each is None:
        return Trial(name, seed, recorded, unaligned, None)
    try:
        copy = each.change.apply(known, 0)
    except NoCopyError as error:
        return Trial(name, seed, recorded, unaligned, None, str(error))
    informed = replace(best, rules=known.rules)
    return Trial(name, seed, recorded, unaligned, measure(copy, informed, owners=owners)[1])
