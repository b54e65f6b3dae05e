"""What a wheel holds, and what works from it, away from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import vpnforensics as vf

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of this checkout installs."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel, and is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def python(installed: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=installed.parent, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_samples_are_found(installed: Path) -> None:
    code = (
        "import vpnforensics as vf; print(vf.__file__); print(*vf.samples.names());"
        "print(vf.samples.load('wireguard').ingress)"
    )
    home, names, ingress = python(installed, "-c", code).splitlines()
    assert Path(home).is_relative_to(installed)
    assert names.split() == vf.samples.names() != []
    assert Path(ingress).is_relative_to(installed)
    assert Path(ingress).is_file()


def test_it_runs_as_a_module(installed: Path) -> None:
    assert python(installed, "-m", "vpnforensics", "--version") == f"vpnf {vf.__version__}\n"


def test_a_wheel_holds_the_package_and_its_samples_and_no_more(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir()}
    assert tops == {"vpnforensics", f"vpnforensics-{vf.__version__}.dist-info"}


@pytest.mark.parametrize("what", ["a usual mix", "a scenario"])
def test_the_core_install_is_enough_to_simulate(installed: Path, what: str) -> None:
    folder = installed.parent
    (folder / "s.yaml").write_text("vpn: {kind: wireguard}\nduration_s: 3\nclients: [{traffic: [dns]}]\n")
    mix = ["--tunnels", "1", "--flows", "2", "--duration", "3"]
    arguments = ["simulate", "-q", "-o", what, *(["s.yaml"] if what == "a scenario" else mix)]
    optional = ("pyarrow", "matplotlib", "pyroute2", "cryptography", "nacl", "dpkt")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({optional}));"
        f"from vpnforensics.cli.main import main; sys.exit(main({arguments}))"
    )
    python(installed, "-c", code)
    assert (folder / what / "truth.json").is_file()


def test_no_message_or_document_advises_a_name_that_no_index_has() -> None:
    for folder, ends in ((ROOT / "vpnforensics", "*.py"), (ROOT / "docs", "*.md"), (ROOT, "*.md")):
        for path in folder.glob(ends) if folder == ROOT else folder.rglob(ends):
            assert not re.search(r"install\S* ['\"]?vpnforensics\b", path.read_text()), path


def test_names_are_reached_lazily() -> None:
    assert vf.samples.names()
    assert {name for name in dir(vf) if name.endswith("Error")} == {
        name for name in dir(vf.errors) if name.endswith("Error")
    }
    assert all(getattr(vf, name) is not None for name in dir(vf))
