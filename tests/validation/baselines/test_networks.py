"""The trained baselines: what they read, what they store; and, where jax is installed, what they learn."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.cli.main import main
from vpnforensics.errors import CaseError
from vpnforensics.evidence.decision import there
from vpnforensics.options import Options
from vpnforensics.validation.baselines.networks import deepcoffea, deepcorr, layers
from vpnforensics.validation.baselines.networks.sequences import sequences
from vpnforensics.validation.baselines.networks.training import Trained, refuse_trained_on, shapes, train
from vpnforensics.validation.baselines.networks.weights import load, save
from vpnforensics.validation.baselines.sightings import Sightings, outer_packets
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.sessions import open_sessions
from vpnforensics.validation.trials import every, labelled

NAMES = (deepcorr.NAME, deepcoffea.NAME)


def untrained(name: str, sessions: tuple[str, ...] = ()) -> Trained:
    return Trained(name, layers.initial(shapes(name), np.random.default_rng(1)), 1.5, 10, 1, sessions)


def test_sequences_are_the_packets_from_a_moment_on() -> None:
    down, up = np.array([10, 20, 50, 90]), np.array([15, 60])
    packets = Sightings(
        np.array([0, 4, 6]), np.r_[down, up] * 1_000_000, np.array([150, 300, 1500, 60, 75, 750], np.int32)
    )
    found = sequences(packets, 0, np.array([15, 95]) * 1_000_000, None, 3)
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found[0, :, 2], [0.2, 1.0, 0.04])  # sizes down, from 20 ms on
    np.testing.assert_allclose(found[0, :, 3], [0.05, 0.5, 0.0])  # sizes up
    gaps_s = np.expm1(found[0, :, 0] * 6.0) * 1e-4
    np.testing.assert_allclose(gaps_s, [0.005, 0.030, 0.040], rtol=1e-5)
    assert not found[1].any()
    until = sequences(packets, 0, np.array([15_000_000]), np.array([50_000_000]), 3)
    np.testing.assert_allclose(until[0, :, 2], [0.2, 0.0, 0.0])


def test_windows_are_all_in_which_a_sender_has_packets() -> None:
    ts_ns = np.array([50, 260, 10]) * 1_000_000
    packets = Sightings(np.array([0, 2, 2, 2, 3]), ts_ns, np.full(3, 60, np.int32))
    found = deepcoffea.windows(packets, 0, 8, range(2))
    assert list(zip(found.sender.tolist(), found.window.tolist(), strict=True)) == [
        (0, -1), (0, 0), (0, 1), (0, 2), (1, -1), (1, 0),
    ]  # fmt: skip
    assert (found.seen[:, :, 2:].any(axis=(1, 2))).all()


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    save(path, [untrained(name, ("ab" * 32,)) for name in NAMES])
    for again, name in zip(load(path), NAMES, strict=True):
        expected = untrained(name, ("ab" * 32,))
        assert all(
            getattr(again, k) == getattr(expected, k) for k in ("name", "seconds", "steps", "sessions")
        )
        for key, array in expected.weights.items():
            np.testing.assert_array_equal(again.weights[key], array)
    with pytest.raises(FileExistsError):
        save(path, [])


def stored(path: Path, change: dict[str, bytes]) -> Path:
    """The weights' file with members replaced."""
    whole = io.BytesIO()
    save(path, [untrained(deepcorr.NAME)])
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(whole, "w") as new:
        for name in old.namelist():
            new.writestr(name, change.get(name, old.read(name)))
    path.write_bytes(whole.getvalue())
    return path


def array_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "change",
    [
        {"deepcorr/out.b.npy": array_bytes(np.zeros(2, np.float32))},
        {"deepcorr/out.b.npy": array_bytes(np.full(1, np.nan, np.float32))},
        {"deepcorr/out.b.npy": array_bytes(np.zeros(1, np.float64))},
        {"about.npy": array_bytes(np.array("[{}]"))},
        {"about.npy": array_bytes(np.array('[{"name": "other"}]'))},
        {"about.npy": pickle.dumps(Harm)},
        {"about.npy": b""},
        {"deepcorr/out.b.npy": array_bytes(np.zeros(5 << 20, np.float32))},
    ],
)
def test_hostile_weights_are_refused(
    tmp_path: Path, change: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaseError, match="no weights of these networks"):
        load(stored(tmp_path / "w.npz", change))
    assert not (tmp_path / "harm").exists()


def test_what_is_no_file_of_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights")
    for name in ("text", "absent"):
        with pytest.raises(CaseError, match=name):
            load(tmp_path / name)


def test_sessions_of_the_training_are_not_judged() -> None:
    sessions = open_sessions([samples.FOLDER / name for name in ("wireguard", "nebula")])
    refuse_trained_on([untrained(deepcorr.NAME, ("0" * 64,))], sessions)
    seen = untrained(deepcorr.NAME, (sessions[1].truth_sha256,))
    with pytest.raises(CaseError, match="nebula: the networks were trained on it"):
        refuse_trained_on([seen], sessions)


def test_without_jax_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    assert main(["train-baselines", "-o", str(tmp_path / "w.npz")]) == 2
    assert "this needs jax, which is not installed" in capsys.readouterr().err


def test_trained_by_one_command_and_judged_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jax")
    weights, report = tmp_path / "w.npz", tmp_path / "report.json"
    seen, unseen = str(samples.FOLDER / "nebula"), str(samples.FOLDER / "wireguard")
    train_command = ["train-baselines", seen, "-o", str(weights), "--steps", "3", "-q"]
    assert main(train_command) == 0
    assert main(train_command) == 2  # nothing is written over
    assert main(["validate", seen, unseen, "--networks", str(weights)]) == 3
    assert "nebula: the networks were trained on it" in capsys.readouterr().err
    command = ["validate", unseen, "--networks", str(weights), "-f", "json", "-o", str(report), "-q"]
    assert main(command) == 0
    cost = {row["method"]: row for row in json.loads(report.read_text())["baselines"]["cost"]}
    for name in NAMES:
        assert cost[f"{name} (style)"]["spoken_true"] == cost["fused"]["true"]
        assert cost[f"{name} (style)"]["trained_s"] > 0


def test_a_convolution_is_numpys() -> None:
    pytest.importorskip("jax")
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((2, 9, 3)), rng.standard_normal((4, 3, 5)), rng.standard_normal(5)
    made = np.asarray(layers.convolved({"c.w": w, "c.b": b}, "c", x))
    for n, at, to in ((0, 0, 0), (1, 5, 4), (0, 3, 2)):
        expected = max(0.0, float((x[n, at : at + 4] * w[:, :, to]).sum() + b[to]))
        assert made[n, at, to] == pytest.approx(expected, abs=1e-5)
    pooled = np.asarray(layers.pooled(np.arange(14.0).reshape(1, 7, 2), 3))
    np.testing.assert_array_equal(pooled, [[[4, 5], [10, 11]]])


def test_adam_finds_the_least_of_a_square() -> None:
    pytest.importorskip("jax")
    found = layers.fitted(
        {"x": np.array([3.0, -2.0], np.float32)},
        lambda weights, aim: ((weights["x"] - aim) ** 2).sum(),
        lambda: (np.array([1.0, 0.5], np.float32),),
        400,
        0.05,
    )
    np.testing.assert_allclose(found["x"], [1.0, 0.5], atol=0.02)


def test_both_networks_learn_and_the_same_again() -> None:
    """A short training on one sample, judged on another: true pairs stand above false ones."""
    pytest.importorskip("jax")
    plan = every(open_sessions([samples.FOLDER / name for name in ("nebula", "openvpn-udp")]), [Damage()])
    networks = train(plan, 60, 5, lambda step, share: None)
    case, labels = labelled(open_sessions([samples.FOLDER / "wireguard"])[0], Damage(), Options())
    for each, method in zip(networks, (deepcorr, deepcoffea), strict=True):
        scores = method.scores(case, each.weights)
        assert len(scores.score) == there(case).sum()
        true = labels.true(scores.flow, scores.tunnel)
        above = (scores.score[true][:, None] > scores.score[~true]).mean()
        assert above > 0.6, each.name
    again = train(plan, 60, 5, lambda step, share: None)
    for one, other in zip(networks, again, strict=True):
        for key, array in one.weights.items():
            np.testing.assert_allclose(array, other.weights[key], atol=1e-4)


def test_a_pair_is_scored_alike_in_any_batch() -> None:
    pytest.importorskip("jax")
    case, _ = labelled(open_sessions([samples.FOLDER / "wireguard"])[0], Damage(), Options())
    weights = untrained(deepcorr.NAME).weights
    pairs = deepcorr.Pairs(case)
    scores = deepcorr.scores(case, weights)
    for n in (0, 100, len(scores.score) - 1):
        flow = scores.flow[n : n + 1]
        one = deepcorr.alike(weights, pairs.flows[flow], pairs.tunnel(int(scores.tunnel[n]), flow))
        assert float(one[0]) == pytest.approx(scores.score[n], rel=1e-4, abs=1e-5)
    assert len(outer_packets(case).start) == 2 * len(case.tunnels) + 1
