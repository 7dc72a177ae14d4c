"""A PDF of the page, printed by the Chromium or Chrome that is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
TIMEOUT_S = 120.0


def find_browser() -> str:
    """A browser that prints without a window; ParameterError if there is none.

    BROWSERS in the search path, in this order; returns the path of the first.
    """
    for name in BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    raise ParameterError(
        "--pdf needs Chromium or Chrome, and none is in the search path: install one, or open the HTML "
        "report in any browser and print it"
    )


def print_to_pdf(browser: str, page: Path) -> bytes:
    """The printed `page`; DiqkdError if the browser does not manage.

    Runs it without a window and with a profile of its own, at most TIMEOUT_S seconds; the content of the PDF
    is returned.
    """
    with tempfile.TemporaryDirectory(prefix="diqkd-print-") as folder:
        printed = Path(folder) / "report.pdf"
        command = [browser, "--headless", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer"]
        command += [f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses to start for root otherwise
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*command, page.resolve().as_uri()], check=False, capture_output=True, timeout=TIMEOUT_S
            )
        if not printed.exists():
            raise DiqkdError(f"{browser} printed nothing; open {page} in a browser and print it from there")
        return printed.read_bytes()
