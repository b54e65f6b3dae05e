"""Engines of other packages: the documented one beside ours, and broken ones that change nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vpnforensics as vf
from tests.documented import installed_from
from tests.small_case import write_case
from vpnforensics.engines import plugged
from vpnforensics.engines.registry import ENGINES
from vpnforensics.options import Options
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.report import gather, report
from vpnforensics.validation.sessions import open_sessions
from vpnforensics.validation.trials import Trial, every, try_session

ENGINE = """
from vpnforensics.engines.registry import Engine
ENGINE = Engine(
    name="{name}", module="{module}", source="s", evidence="e", needs="n", speaks_when="w", silent_when="x",
    finds_pairs={finds_pairs},
)
"""
SCORES = """
import numpy as np
from vpnforensics.engines.scores import EngineScores
def score(case, only=None):
    {body}
    pairs = np.array({flow}), np.array({tunnel})
    return EngineScores("toy", *pairs, np.array({score}), np.ones(2, int), ("", ""))
"""
COUNTED = "global n; n = globals().get('n', 0) + 1; assert n < 3"
FINE = {"body": "pass", "flow": [0, 1], "tunnel": [0, 0], "score": [1.0, 1.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("plugged"))


@pytest.fixture(autouse=True)
def forget_toys() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith(("toy", "vpnf_seconds"))]:
        del sys.modules[name]


def contract(folder: Path, **options: object) -> dict[str, object]:
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", **options)  # type: ignore[arg-type]
    told: dict[str, object] = json.loads(case.to_json())
    return told


def toy(
    place: Path,
    init: str | None = None,
    scores: str = SCORES.format(**FINE),
    *,
    name: str = "toy",
    package: str = "toy_engine",
    finds_pairs: bool = False,
) -> Path:
    """A package as installers leave it: its modules, and who they are."""
    home, info = place / package, place / f"{package}-1.2.dist-info"
    home.mkdir(parents=True)
    info.mkdir()
    module = f"{package}.engine"
    text = ENGINE.format(name=name, module=module, finds_pairs=finds_pairs) if init is None else init
    (home / "__init__.py").write_text(text)
    (home / "engine.py").write_text(scores)
    dist = package.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[vpnforensics.engines]\n{name} = {package}:ENGINE\n")
    return place


def test_the_documented_engine_goes_the_road_of_ours(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = contract(folder)
    monkeypatch.syspath_prepend(str(installed_from("own-engine.md", tmp_path)))
    found = contract(folder)
    parameters = found["tool"]["parameters"]  # type: ignore[index]
    assert parameters["engines"] == [*ENGINES, "seconds"]
    assert parameters["plugins"] == {"seconds": "vpnf-seconds 0.1"}
    said = [row["engines"]["seconds"] for row in found["scores"]]  # type: ignore[attr-defined]
    spoken = [each for each in said if each["llr"] is not None]
    assert len(spoken) > 10  # calibrated
    assert all("seconds" in each["note"] for each in spoken)
    assert all(abs(each["llr"]) <= abs(each["score"]) + 1e-3 for each in spoken)  # never more than it claims
    assert any(each["score"] > 1 for each in spoken)
    # What ours say of a pair is what they say without it.
    key = [(row["flow"], row["tunnel"]) for row in without["scores"]]  # type: ignore[attr-defined]
    ours = {k: row["engines"] for k, row in zip(key, without["scores"], strict=True)}  # type: ignore[call-overload]
    for row in found["scores"]:  # type: ignore[attr-defined]
        rest = {name: each for name, each in row["engines"].items() if name != "seconds"}
        assert rest == ours[row["flow"], row["tunnel"]]
    # Validated beside ours, and what it says is true: of all pairs, it tells those that belong together.
    sessions = open_sessions([folder])
    document = report(gather(every(sessions, [Damage()]), Options(), lambda step, share: None), Options(), [])
    assert document["methods"]["seconds"].keys() == document["methods"]["rtt"].keys()
    trial = try_session(sessions[0], Damage(), Options(), lambda step, share: None)
    assert isinstance(trial, Trial)
    scores = plugged.all_engines()["seconds"].score(trial.case)
    h1 = trial.labels.true(scores.flow, scores.tunnel)
    assert scores.score[h1].mean() > 0.5
    assert scores.score[~h1].mean() < -0.5
    # Chosen, or not.
    assert contract(folder, engines=["packets"])["tool"]["parameters"].get("plugins") is None  # type: ignore[index]
    (tmp_path / "case.json").write_text(json.dumps(found))
    case = vf.open_case(tmp_path / "case.json")
    assert "seconds" in set(case.scores_long().engine)


BROKEN = {
    "cannot be imported": ({"init": "import no_such_module"}, "ModuleNotFoundError: No module named"),
    "does not parse": ({"init": "ENGINE = ("}, "SyntaxError"),
    "ends the process": ({"init": "raise SystemExit('bye')"}, "SystemExit: bye"),
    "no engine": ({"init": "ENGINE = 7"}, "leads to a int, not to an Engine"),
    "another name": (
        {"init": ENGINE.format(name="tay", module="toy_engine.engine", finds_pairs=False)},
        "its Engine is named 'tay'",
    ),
    "one of our names": ({"name": "rtt"}, "vpnforensics has an engine of this name"),
    "no score": ({"scores": "def scare(): pass"}, "has no function score"),
    "decides": (
        {
            "init": ENGINE.format(name="toy", module="toy_engine.engine", finds_pairs=False).replace(
                "finds_pairs", "of_fields"
            )
        },
        "of_fields has to be True",
    ),
    "raises": ({"scores": SCORES.format(**FINE | {"body": "1 / 0"})}, "ZeroDivisionError: division by zero"),
    "raises when it looks for pairs": (
        {"scores": SCORES.format(**FINE | {"body": "raise RuntimeError('a\\nb')"}), "finds_pairs": True},
        "RuntimeError: a b",
    ),
    "fails on moved flows only": (
        {
            "scores": SCORES.format(**FINE | {"body": COUNTED}),
            "finds_pairs": True,
        },
        "AssertionError",
    ),
    "returns nothing": ({"scores": "def score(case, only=None): pass"}, "score returned a NoneType"),
    "another's scores": (
        {"scores": SCORES.format(**FINE).replace('"toy"', '"rtt"')},
        "its scores are named 'rtt'",
    ),
    "a flow that is not there": (
        {"scores": SCORES.format(**FINE | {"flow": [0, 10**6]})},
        "a flow that is not in the case",
    ),
    "a tunnel before the first": (
        {"scores": SCORES.format(**FINE | {"tunnel": [0, -1]})},
        "a tunnel that is not in the case",
    ),
    "half a flow": (
        {"scores": SCORES.format(**FINE | {"flow": [0.0, 0.5]})},
        "flow column is not one of whole numbers",
    ),
    "no number": (
        {"scores": SCORES.format(**FINE | {"score": "[1.0, np.nan]"}).replace("'", "")},
        "a score is no finite number",
    ),
    "twice": ({"scores": SCORES.format(**FINE | {"flow": [1, 1]})}, "scored a pair twice"),
    "columns of different lengths": (
        {"scores": SCORES.format(**FINE | {"score": [1.0]})},
        "columns of different lengths",
    ),
}


@pytest.fixture(scope="module")
def without(folder: Path) -> dict[str, object]:
    return contract(folder)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_one_gives_a_warning_and_changes_nothing(
    how: str, folder: Path, without: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, reason = BROKEN[how]
    monkeypatch.syspath_prepend(str(toy(tmp_path, **changes)))  # type: ignore[arg-type]
    found = contract(folder)
    (told,) = set(found["warnings"]) - set(without["warnings"])  # type: ignore[call-overload]
    assert reason in told
    assert told.startswith(f"the engine '{changes.get('name', 'toy')}' of toy-engine 1.2 was set aside: ")  # type: ignore[attr-defined]
    assert "\n" not in told
    for part in ("links", "scores", "flows", "tunnels", "expected_false_links", "decoys"):
        assert found[part] == without[part], part


def test_two_of_one_name_are_both_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("toy_one", "toy_two"):
        monkeypatch.syspath_prepend(str(toy(tmp_path / package, package=package)))
    found = plugged.installed()
    assert "toy" not in found.working
    assert "another package has one of this name" in str(found.broken["toy"])


def test_asked_for_by_name_a_broken_one_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(toy(tmp_path, init="import no_such_module")))
    with pytest.raises(ValueError, match=r"'toy' of toy-engine 1\.2 was set aside: ModuleNotFoundError"):
        Options(engines=("packets", "toy"))
    with pytest.raises(ValueError, match="not 'nobody'"):
        Options(engines=("nobody",))


def test_only_what_was_asked_for_is_believed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that answers more than it was asked is heard on what it was asked."""
    every = (
        "import numpy as np\nfrom vpnforensics.engines.scores import EngineScores, in_order\n"
        "def score(case, only=None):\n"
        "    p = in_order(None, len(case.flows), len(case.tunnels))\n    n = len(p)\n"
        '    return EngineScores("toy", p.flow, p.tunnel, np.ones(n), np.ones(n, int), ("",) * n)\n'
    )
    monkeypatch.syspath_prepend(str(toy(tmp_path, scores=every)))
    found = contract(folder)
    assert not [each for each in found["warnings"] if "toy" in each]  # type: ignore[attr-defined]


def test_nothing_is_loaded_by_an_import(tmp_path: Path) -> None:
    toy(tmp_path, init="print('loaded')")
    code = "import vpnforensics, vpnforensics.cli.main, vpnforensics.cli.correlate, vpnforensics.options"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{tmp_path}:{Path(vf.__file__).parent.parent}"},
    )  # fmt: skip
    assert done.stdout == ""


def test_the_commands_tell_of_it(folder: Path, tmp_path: Path) -> None:
    def vpnf(place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        path = f"{place}:{Path(vf.__file__).parent.parent}"
        command = [sys.executable, "-m", "vpnforensics", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": path})

    fine = toy(tmp_path / "fine")
    listed = vpnf(fine, "engines").stdout
    assert "toy-engine 1.2" in listed
    sides = (folder / "ingress.pcap", folder / "egress.pcap")
    saved = vpnf(fine, "correlate", *sides, "--engine", "packets", "--engine", "toy", "-f", "json")
    assert json.loads(saved.stdout)["tool"]["parameters"]["engines"] == ["packets", "toy"]
    (tmp_path / "case.json").write_text(saved.stdout)
    assert vpnf(fine, "verify", tmp_path / "case.json").returncode == 0
    gone = vpnf(tmp_path, "verify", tmp_path / "case.json")
    assert gone.returncode == 3
    assert "made with the engine 'toy' of toy-engine 1.2, which is not here" in gone.stderr

    broken = toy(tmp_path / "broken", init="raise OSError('no license')")
    said = vpnf(broken, "engines")
    assert "'toy' of toy-engine 1.2 was set aside: OSError: no license" in said.stderr
    asked = vpnf(broken, "correlate", *sides, "--engine", "toy")
    assert asked.returncode == 2
    assert "OSError: no license" in asked.stderr
    assert "Traceback" not in said.stderr + asked.stderr
    assert vpnf(tmp_path, "correlate", *sides, "--engine", "nobody").returncode == 2
