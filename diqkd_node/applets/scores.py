"""Applet of a characterisation: S and Q with 95 % bands.

python -m diqkd_node.applets.scores --embed …
"""

from diqkd_node.applets.public_applet import PublicApplet, QtWidgets, pyqtgraph
from diqkd_node.applets.score_view import LOCAL_BOUND, QUANTUM_BOUND, bands
from diqkd_node.run.public_facts import PREFIX


class Scores(QtWidgets.QWidget):
    """Draws two bands, one above the other."""

    def __init__(self, args, req=None):
        super().__init__()
        self.setWindowTitle("DIQKD scores")
        self.resize(560, 420)
        layout = QtWidgets.QVBoxLayout(self)
        self.headline = QtWidgets.QLabel("no outcomes yet")
        layout.addWidget(self.headline)
        self.plots = []
        for label, colour in (("CHSH score S", "#58a6ff"), ("error rate Q, %", "#3fb950")):
            plot = pyqtgraph.PlotWidget()
            plot.setLabel("left", label)
            plot.showGrid(x=True, y=True, alpha=0.2)
            edge = pyqtgraph.mkPen(None)
            low, high = plot.plot([], [], pen=edge), plot.plot([], [], pen=edge)
            fill = pyqtgraph.mkColor(colour)
            fill.setAlpha(60)
            plot.addItem(pyqtgraph.FillBetweenItem(low, high, brush=fill))
            curve = plot.plot([], [], pen=pyqtgraph.mkPen(colour, width=2))
            layout.addWidget(plot, 1)
            self.plots.append((low, high, curve))
            if len(self.plots) == 1:
                for bound in (LOCAL_BOUND, QUANTUM_BOUND):
                    plot.addItem(pyqtgraph.InfiniteLine(bound, angle=0, pen=pyqtgraph.mkPen("#8b949e")))
            else:
                plot.setLabel("bottom", "minutes before the last block")

    def data_changed(self, value, metadata, persist, mods):
        """Called by the applet with all datasets of the prefix."""
        score, errors = bands(value.get(PREFIX + "correlations", ()))
        if score.values.size:
            self.headline.setText(f"S = {score.last}    Q = {errors.last} %")
        for (low, high, curve), band in zip(self.plots, (score, errors), strict=True):
            low.setData(band.times, band.low)
            high.setData(band.times, band.high)
            curve.setData(band.times, band.values)


def main():
    applet = PublicApplet(Scores, cmd_description="S and Q of a characterisation", default_update_delay=0.5)
    applet.run()


if __name__ == "__main__":
    main()
