"""Debian's browsers, driven by Playwright."""

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = shutil.which("chromium")
FIREFOX = shutil.which("firefox-esr")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
# Script for new pages: Dagster's does not ask for a mail address, MLflow's does not open a chat.
QUIET = """localStorage.setItem("communityNux", '"1"');
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");"""
_RELAY = Path(__file__).with_name("firefox_for_playwright.py")


@contextlib.contextmanager
def opened_browser(playwright: "Playwright", name: str, folder: Path, *, is_dark: bool = False) -> Iterator["Browser"]:
    """A running browser: ``chromium`` or ``firefox``; ``folder`` is for Firefox's downloads and start file."""
    if name == "chromium":
        if CHROMIUM is None:
            pytest.skip("chromium is not installed")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
    else:
        if FIREFOX is None:
            pytest.skip("firefox-esr is not installed")
        start = folder / "firefox"
        start.write_text(f'#!/bin/sh\nLUNA_TEST_FIREFOX={FIREFOX} exec "{sys.executable}" "{_RELAY}" "$@"\n')
        start.chmod(start.stat().st_mode | stat.S_IXUSR)
        # 0 is dark, 1 is light.
        override = "layout.css.prefers-color-scheme.content-override"
        preferences: dict[str, str | float | bool] = {override: 0 if is_dark else 1}
        browser = playwright.firefox.launch(
            executable_path=start,
            channel="moz-firefox",
            headless=True,
            firefox_user_prefs=preferences,
            downloads_path=folder,
        )
    try:
        yield browser
    finally:
        browser.close()


def keep_picture(page: "Page", name: str, folder: Path) -> None:
    """Write the page as it is shown to a folder; all go to that of LUNA_TEST_PICTURES if it is set."""
    page.screenshot(path=Path(os.environ.get("LUNA_TEST_PICTURES") or folder) / f"{name}.png")
