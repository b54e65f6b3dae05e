"""The documentation site builds without a warning, no link leads nowhere, nothing loads from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.documented import DOCS
from vpnforensics.engines.registry import ENGINES

ROOT = DOCS.parent
HOME = "https://github.com/vpnforensics/vpnforensics/blob/main/"


class _Page(HTMLParser):
    """What a page links to, what it loads, and where its links may lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.loads.append(given["href"])
        if tag in ("script", "img", "iframe", "source", "video") and "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, in a folder of its own."""
    pytest.importorskip("zensical", reason="Zensical builds the site, and is not installed")
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "vpnforensics"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "mkdocs.yml", folder)
    gather = [sys.executable, str(ROOT / "docs/generate/site.py"), str(folder / "build/docs")]
    for command in (gather, [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (done.stdout + done.stderr)[:3000]
        assert "arning" not in done.stdout + done.stderr
    return (folder / "build/site").resolve()


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page_and_every_page_of_the_navigation_is_there(site: Path) -> None:
    for document in DOCS.rglob("*.md"):
        assert (site / document.relative_to(DOCS)).with_suffix(".html").is_file(), document
    for name in re.findall(r": ([\w-]+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE):
        assert (site / f"{name}.html").is_file(), name


def test_no_link_leads_nowhere(pages: dict[Path, _Page], site: Path) -> None:
    lost = []
    followed = 0
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the server's root
            continue
        for link in page.links:
            parts = urlsplit(link)
            if link.startswith(HOME):
                if not (ROOT / unquote(link.removeprefix(HOME))).exists():
                    lost.append((path.name, link))
                continue
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            known = target.is_relative_to(site) and target.exists()
            if not known or parts.fragment not in (
                {""} | (pages[target].anchors if target in pages else set())
            ):
                lost.append((path.name, link))
    assert not lost
    assert followed > 1000


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        assert not [each for each in page.loads if urlsplit(each).netloc], path


def test_the_reference_is_of_the_program_and_the_schema(site: Path) -> None:
    def text(name: str) -> str:
        return re.sub(r"<[^>]+>", "", (site / name).read_text())

    for name in ("correlate", "annotate", "lab run", "tunnel up", "exercise mark"):
        assert re.search(rf"vpnf {name}\b", text("cli.html")), name
    assert "--expected-false-links" in text("cli.html")
    for name in ("correlate", "read_capture", "open_case", "CaseResult", "EngineScores", "PlugInError"):
        assert name in text("api.html"), name
    for name in ENGINES:
        assert name in text("engines.html"), name
    schema = json.loads((ROOT / "vpnforensics/report/result.schema.json").read_text())
    fields = text("result-fields.html")
    objects = [schema, *(each for each in schema["$defs"].values() if "properties" in each)]
    assert len(objects) > 10
    for each in objects:
        for key, what in each["properties"].items():
            assert key in fields
            for word in what.get("description", "").split()[:4]:
                assert word.strip(".,;:()") in fields.replace("&gt;", ">"), (key, word)
