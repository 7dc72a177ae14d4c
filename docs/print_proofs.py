"""PDF of the pages with proofs, printed from the built site: `python docs/print_proofs.py docs/_build/html`.

Chromium or Chrome typesets the MathML of the pages, so that no TeX is needed. The files are written beside
the pages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diqkd_postproc.report.printing import find_browser, print_to_pdf

PAGES = ("proofs", "order", "variable_length", "one_round")


def main() -> None:
    """Print every page."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    browser, site = find_browser(), Path(sys.argv[1])
    for name in PAGES:
        printed = site / f"{name}.pdf"
        printed.write_bytes(print_to_pdf(browser, site / f"{name}.html"))
        print(printed)


if __name__ == "__main__":
    main()
