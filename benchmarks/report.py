"""The HTML report of 10,000 flows: time to write it, its size, how fast Chromium opens and searches it.

Simulates 218 tunnels with about 46 flows each, correlates them, and writes the report with all that its pages
draw from. The browser part needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import figure

import vpnforensics as vf
from vpnforensics.report.html.document import html_form

TUNNELS, FLOWS_A_TUNNEL, DURATION_S = 218, 40, 300.0
_MOST_S, _MOST_MB, _MOST_SEARCH_S = 20.0, 15.0, 2.0
_SEARCH = """(typed) => {
  const input = document.querySelector("#flows input");
  const start = performance.now();
  input.value = typed;
  input.dispatchEvent(new Event("input"));
  document.body.getBoundingClientRect();
  return [(performance.now() - start) / 1e3, document.querySelector("#flows [role=status]").textContent];
}"""
_SORT = """() => {
  const start = performance.now();
  document.querySelectorAll("#flows thead button")[8].click();
  document.body.getBoundingClientRect();
  return (performance.now() - start) / 1e3;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.045, help="factor on transfer sizes")
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "case"
        if not (folder / "egress.pcap").exists():
            simulate(folder, options.scale)
        case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
        path = folder / "report.html"
        start, start_cpu = time.perf_counter(), time.process_time()
        path.write_text("".join(html_form(case)), encoding="utf-8")
        took, took_cpu = time.perf_counter() - start, time.process_time() - start_cpu
        size_mb = path.stat().st_size / 1e6
        figure("flows", f"{len(case.links):,}")
        figure("packets of linked flows", f"{len(case.pairings):,}")
        figure("writing the report, s", f"{took:.1f}", f"<= {_MOST_S:g}", took <= _MOST_S)
        figure("writing the report, CPU s", f"{took_cpu:.1f}")
        figure("size, MB", f"{size_mb:.1f}", f"<= {_MOST_MB:g}", size_mb <= _MOST_MB)
        if shutil.which("chromium") is None:
            print("  Chromium is missing: `vpnf lab install` brings it")
            return
        in_browser(path)


def simulate(folder: Path, scale: float) -> None:
    command = [sys.executable, "-m", "vpnforensics.groundtruth.simulate", "--tunnels", str(TUNNELS)]
    command += ["--flows", str(FLOWS_A_TUNNEL), "--duration", str(DURATION_S), "--scale", str(scale)]
    command += ["--snaplen", "96", "--offset", "12.5", "--drift", "20", "-o", str(folder)]
    subprocess.run(command, check=True)


def in_browser(path: Path) -> None:
    """Open the report, search it, sort it, and open a link's page."""
    from playwright.sync_api import sync_playwright

    unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=unboxed)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(path.as_uri())
        figure("opening it in Chromium, s", f"{time.perf_counter() - start:.2f}")
        for what, typed in (("first", "tcp :443"), ("second", "t17 linked"), ("nothing found", "zzzz")):
            took, said = page.evaluate(_SEARCH, typed)
            met = took <= _MOST_SEARCH_S
            figure(f"search, {what} ({said.partition(', ')[0]}), s", f"{took:.3f}", "<= 2", met)
        page.evaluate(_SEARCH, "")
        figure("sorting by packets, s", f"{page.evaluate(_SORT):.3f}")
        start = time.perf_counter()
        page.locator("#flows tbody a").first.click()
        page.locator("article h2").wait_for()
        figure("opening the longest flow's page, s", f"{time.perf_counter() - start:.2f}")
        browser.close()


if __name__ == "__main__":
    main()
