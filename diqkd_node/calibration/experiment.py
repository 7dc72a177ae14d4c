"""Base of the calibration experiments: arguments, progress, pauses, result and its application.

A subclass, one a file in `repository/`, says what to scan and how to fit it. The data of every shot is public
here: nothing in a calibration depends on settings or outcomes of a key run.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from artiq import __version__ as artiq_version
from artiq.experiment import *

from diqkd_node.calibration import figures
from diqkd_node.calibration.application import apply_result
from diqkd_node.calibration.result import CalibrationResult
from diqkd_node.calibration.scan_data import ScanData
from diqkd_node.configuration import NodeConfiguration
from diqkd_node.node_arguments import ask_for_node, configuration_of
from diqkd_node.run.deletion import DeletionGuard
from diqkd_node.run.ion_reload import IonReload, loader_of
from diqkd_postproc import __version__
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError

logger = logging.getLogger(__name__)

POINTS_APPLET = (
    "${{artiq_applet}}plot_xy calibration.{name}.y --x calibration.{name}.x --error calibration.{name}.error "
    "--fit calibration.{name}.fit"
)


class CalibrationExperiment(HasEnvironment):
    """Base of the calibrations.

    A subclass gives `calibration`, its name in results and datasets, and `build_scan_arguments`,
    `make_scan` and `find`.
    """

    calibration = ""

    def build(self):
        self.setattr_device("core")
        self.setattr_device("scheduler")
        self.setattr_device("ccb")
        ask_for_node(self)
        self.setattr_argument(
            "result_directory",
            StringValue(""),
            "Result",
            "Folder for the result (JSON) and its figure (PNG). Empty: the folder of this run.",
        )
        self.setattr_argument(
            "update_configuration",
            BooleanValue(False),
            "Result",
            "Write what was found into the configuration file, unless it is implausible. Makes a new file.",
        )
        self.build_scan_arguments()

    def build_scan_arguments(self):
        """Ask for the arguments of the scan."""

    def setattr_count(self, name, default, maximum, tooltip):
        """A whole number of shots, points and the like, in the group "Scan"."""
        self.setattr_argument(
            name,
            NumberValue(default=default, min=1, max=maximum, precision=0, step=1, type="int"),
            "Scan",
            tooltip,
        )

    def setattr_arrival_time(self, way):
        """The time that the ion takes on its `way`, in the group "Scan"."""
        self.setattr_argument(
            "arrival_time",
            NumberValue(default=300e-6, unit="us", min=30e-6, max=0.1, precision=0, step=10e-6),
            "Scan",
            f"Time that the ion takes {way}: ten time constants of the electrodes.",
        )

    def setattr_transition(self, *transitions):
        """The transition to calibrate, in the group "Scan"; it is the subject of the result."""
        levels = {"map": "+1/2 to -3/2", "qubit": "-1/2 to -3/2", "shelve": "+1/2 to +3/2"}
        described = "; ".join(f"{name}: {levels[name]}" for name in transitions)
        choice = EnumerationValue(list(transitions), default="qubit")
        self.setattr_argument("transition", choice, "Scan", f"S1/2 to D5/2. {described}.")

    def make_scan(self):
        """The scan, made with `self.scan_data(...)`."""
        raise NotImplementedError

    def find(self):
        """The `Finding` in `self.data`."""
        raise NotImplementedError

    def subject(self):
        """What of several was calibrated, in words."""
        return getattr(self, "transition", "")

    def prepare(self):
        if self.update_configuration and not self.configuration_file:
            raise ParameterError("update_configuration needs configuration_file, the file to update")
        self.configuration_path = Path(self.configuration_file).expanduser()
        self.deletion = DeletionGuard()
        self.prepare_scan(self.load_configuration())

    def load_configuration(self):
        """The node configuration as its file is now."""
        if self.update_configuration and not self.configuration_path.exists():
            return NodeConfiguration(role=self.role)  # the result will make the file
        return configuration_of(self)

    def prepare_scan(self, configuration):
        """Make the scan for a configuration."""
        self.configuration = configuration
        self.scan = self.make_scan()
        self.scan.prepare()

    def scan_data(self, num_shots, shuffle=True):
        """Data of a scan with `num_shots` for each point. Points come in random order, so that a drift
        during the scan becomes noise instead of a shift."""
        rng = np.random.default_rng(int(self.scheduler.rid))
        order = rng.permutation(len(num_shots)) if shuffle else range(len(num_shots))
        self.data = ScanData(
            num_shots,
            [int(point) for point in order],
            should_stop=lambda: self.deletion.call(self.scheduler.check_pause, if_deleted=True),
            progress=self.publish_progress,
            reload=IonReload(loader_of(self)),
        )
        return self.data

    def bright_shots(self):
        """Shots of each point in which the ion was bright, and all shots of each: two arrays (points,)."""
        threshold = self.configuration.readout.threshold
        counts = [self.data.values(point) for point in range(len(self.data.num_shots))]
        bright = np.array([int((values > threshold).sum()) for values in counts])
        return bright, np.array([len(values) for values in counts])

    def publish_progress(self, done):
        """Points done, for the dashboard and for `diqkd node`."""
        total = len(self.data.num_shots)
        self.deletion.call(self.set_dataset, "calibration.num_points", total, broadcast=True)
        self.deletion.call(self.set_dataset, "calibration.points_done", done, broadcast=True)

    def run(self):
        self.started = datetime.now(UTC)
        # `prepare` may have come while an earlier calibration still ran, which has changed the file since.
        configuration = self.load_configuration()
        if configuration != self.configuration:
            self.prepare_scan(configuration)
        with self.deletion:
            while not self.data.complete:
                self.scan.run()
                if not self.data.complete:
                    self.core.close()
                    self.deletion.raise_if_deleted()
                    self.scheduler.pause()
        self.conclude()

    def conclude(self):
        """Find the result, keep it, and put it into the configuration. Belongs to `run`: the next experiment,
        or a key run that made way for this one, begins while this one is still in `analyze`."""
        result = self.result = CalibrationResult(
            calibration=self.calibration,
            role=self.role,
            subject=self.subject(),
            time=self.started.isoformat(timespec="seconds"),
            finding=self.find(),
            provenance=self.provenance(),
        )
        directory = Path(self.result_directory).expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        words = [self.calibration, *self.subject().split(), self.role, f"{self.started:%Y%m%dT%H%M%S}"]
        path = self.result_path = directory / ("_".join(words) + f"_{int(self.scheduler.rid):05d}.json")
        path.write_text(result.to_json(), encoding="utf-8")
        self.refusal = None
        if self.update_configuration:
            try:
                for change in apply_result(path, self.configuration_path):
                    logger.info("%s: %s", self.configuration_path, change)
            except DiqkdError as error:
                self.refusal = error

    def analyze(self):
        """Show the result; one that was not applied can be looked at before this experiment fails."""
        result = self.result
        figures.save(result, self.result_path.with_suffix(".png"))
        self.publish(result, self.result_path)
        for name, quantity in result.finding.quantities.items():
            logger.info("%s: %s = %s", result.title, name.replace("_", " "), quantity)
        for note in result.finding.notes:
            logger.warning("%s: %s", result.title, note)
        if self.refusal is not None:
            raise self.refusal

    def provenance(self):
        """How the result came about."""
        return {
            "diqkd": __version__,
            "artiq": artiq_version,
            "rid": int(self.scheduler.rid),
            "revision": str(self.scheduler.expid.get("repo_rev", "unknown")),
            "arguments": dict(self.scheduler.expid.get("arguments", {})),
            "node_configuration": self.configuration.differences(),
            "num_shots": int(sum(self.data.num_shots)),
        }

    def publish(self, result, path):
        """Values, points and fit as datasets, and an applet that shows them."""
        prefix = f"calibration.{self.calibration}"
        for name, quantity in result.finding.quantities.items():
            self.set_dataset(f"{prefix}.{name}", quantity.value, broadcast=True)
            self.set_dataset(f"{prefix}.{name}_error", quantity.standard_error, broadcast=True)
        self.set_dataset(f"{prefix}.p_value", result.finding.goodness_of_fit.p_value, broadcast=True)
        self.set_dataset(f"{prefix}.result_file", str(path.resolve()), broadcast=True)
        figure = result.finding.figure
        points = figure["series"][0]
        x, y = np.array(points["x"]), np.array(points["y"])
        order = np.argsort(x)
        error = (np.array(points["high"]) - np.array(points["low"])) / 4 if "high" in points else np.sqrt(y)
        drawn = figure["curves"][0] if figure["curves"] else points
        for name, values in {
            "x": x[order],
            "y": y[order],
            "error": error[order],
            "fit": np.interp(x[order], drawn["x"], drawn["y"]),
        }.items():
            self.set_dataset(f"{prefix}.{name}", values, broadcast=True)
        self.ccb.issue(
            "create_applet", result.title, POINTS_APPLET.format(name=self.calibration), group="calibrations"
        )
