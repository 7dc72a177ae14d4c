"""Live views for `artiq_dashboard`: what they show is computed in `run_view` and `score_view`, without Qt.

The applets themselves (`run_status`, `scores`) only draw. They need what every dashboard has, pyqtgraph and
Qt, and read public facts only: there is nothing else in the datasets (see `public_facts`).
"""

from __future__ import annotations

from typing import Any

GROUP = "diqkd"
RUN_STATUS = ("DIQKD run", "${python} -m diqkd_node.applets.run_status")
SCORES = ("DIQKD scores", "${python} -m diqkd_node.applets.scores")


def show(ccb: Any, *applets: tuple[str, str]) -> None:
    """Have every connected dashboard open these applets. Without a dashboard nothing happens."""
    for name, command in applets:
        ccb.issue("create_applet", name, command, group=GROUP)
