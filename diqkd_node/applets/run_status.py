"""Applet of a run: rounds done and time left, lamps, herald rate with the pauses.

    python -m diqkd_node.applets.run_status --embed …

`artiq_dashboard` starts it; the key run asks for that through the CCB.
"""

from diqkd_node.applets.public_applet import PublicApplet, QtWidgets, pyqtgraph
from diqkd_node.applets.run_view import Lamp, RunView
from diqkd_node.run.public_facts import PREFIX

COLOURS = {Lamp.GOOD: "#3fb950", Lamp.WAITING: "#d29922", Lamp.BAD: "#f85149", Lamp.UNKNOWN: "#8b949e"}


class RunStatus(QtWidgets.QWidget):
    """Draws a `RunView`."""

    def __init__(self, args, req=None):
        super().__init__()
        self.setWindowTitle("DIQKD run")
        self.resize(560, 420)
        self.view = RunView()
        layout = QtWidgets.QVBoxLayout(self)
        self.progress_text = QtWidgets.QLabel("no run yet")
        font = self.progress_text.font()
        font.setPointSize(font.pointSize() + 3)
        self.progress_text.setFont(font)
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 1000)
        self.lamps = QtWidgets.QLabel()
        self.pause = QtWidgets.QLabel()
        for label in (self.progress_text, self.pause):
            label.setWordWrap(True)
        self.plot = pyqtgraph.PlotWidget()
        self.plot.setLabel("left", "heralds a second")
        self.plot.setLabel("bottom", "minutes before now")
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        self.curve = self.plot.plot([], [], pen=pyqtgraph.mkPen("#58a6ff", width=2))
        self.spans = []
        for widget in (self.progress_text, self.progress, self.lamps, self.pause):
            layout.addWidget(widget)
        layout.addWidget(self.plot, 1)

    def data_changed(self, value, metadata, persist, mods):
        """Called by the applet with all datasets of the prefix."""
        facts = {name[len(PREFIX) :]: item for name, item in value.items() if name.startswith(PREFIX)}
        self.view.update(facts)
        self.draw()

    def draw(self):
        view = self.view
        self.progress_text.setText(view.progress)
        self.progress.setValue(round(1000 * view.fraction))
        rows = "".join(
            f"<tr><td style='color:{COLOURS[status.lamp]}'>&#9679;&nbsp;</td>"
            f"<td>{status.label}&nbsp;&nbsp;</td><td><b>{status.text}</b></td></tr>"
            for status in view.statuses()
        )
        self.lamps.setText(f"<table>{rows}</table>")
        self.pause.setText(view.last_pause)
        self.curve.setData(*view.history())
        for span in self.spans:
            self.plot.removeItem(span)
        self.spans = [
            pyqtgraph.LinearRegionItem(span, movable=False, brush=(210, 153, 34, 60), pen=(0, 0, 0, 0))
            for span in view.pause_spans()
        ]
        for span in self.spans:
            self.plot.addItem(span)


def main():
    applet = PublicApplet(RunStatus, cmd_description="View of a DIQKD run", default_update_delay=0.2)
    applet.run()


if __name__ == "__main__":
    main()
