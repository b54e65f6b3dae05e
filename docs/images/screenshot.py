"""The README's picture of the HTML report: the shipped WireGuard recording in Chromium, clocks and timeline.

Run: ``make screenshot`` (needs Chromium, which ``vpnf lab install`` brings).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import vpnforensics as vf
from vpnforensics.report.html.document import html_form

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 1060, 990


def main() -> None:
    """Write ``report.png`` beside this file."""
    os.chdir(ROOT)
    case = vf.correlate("samples/wireguard/ingress.pcap", "samples/wireguard/egress.pcap")
    unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        path = Path(folder) / "report.html"
        path.write_text("".join(html_form(case)), encoding="utf-8")
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=unboxed)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{path.as_uri()}#clocks")
        page.wait_for_timeout(1000)  # until it has scrolled
        page.screenshot(path=Path(__file__).with_name("report.png"))
        browser.close()


if __name__ == "__main__":
    main()
