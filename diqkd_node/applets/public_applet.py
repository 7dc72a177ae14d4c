"""Base of the applets, which receives every public fact without naming datasets in its command line."""

# pyqtgraph takes the Qt that is there already: that of ARTIQ, PyQt5 for ARTIQ 8 and PyQt6 for ARTIQ 9.
# isort: off
from artiq.applets.simple import SimpleApplet
from qasync import QtWidgets
import pyqtgraph
# isort: on

from diqkd_node.run.public_facts import PREFIX

__all__ = ["PublicApplet", "QtWidgets", "pyqtgraph"]


class PublicApplet(SimpleApplet):
    """Subscribes to all datasets `diqkd.…`."""

    def args_init(self):
        super().args_init()
        self.dataset_prefixes.append(PREFIX)
