"""Requests to dashboards to open the live views of `diqkd_node.applets`, through the CCB."""

from typing import Any

GROUP = "diqkd"
RUN_STATUS = ("DIQKD run", "${python} -m diqkd_node.applets.run_status")
SCORES = ("DIQKD scores", "${python} -m diqkd_node.applets.scores")


def show(ccb: Any, *applets: tuple[str, str]) -> None:
    """Have every connected dashboard open these applets. Without a dashboard nothing happens."""
    for name, command in applets:
        ccb.issue("create_applet", name, command, group=GROUP)
