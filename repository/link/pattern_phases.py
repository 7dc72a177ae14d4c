"""Herald-pattern phases: fringes of the link against the phase of Bob's pulse, by both nodes."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import figures
from diqkd_node.calibration.application import apply_result
from diqkd_node.calibration.fits.pattern_phases import fit_pattern_phases
from diqkd_node.calibration.result import CalibrationResult
from diqkd_node.run.two_node_scan import TwoNodeScan
from diqkd_node.sequence.pulse_table import analysis_pulse
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError

logger = logging.getLogger(__name__)

ALICE_TEST_SETTING = 1


class PatternPhases(TwoNodeScan, EnvExperiment):
    """Herald-pattern phases

    Scans the phase of Bob's analysis pulse and finds, for each herald pattern, the one that wins test rounds.
    Calibrates Bob's analysis.pattern_phase_turns."""

    scan = "pattern phases"
    default_rounds = 20_000
    default_directory = "~/diqkd/pattern_phases"

    def build(self):
        super().build()
        self.setattr_argument(
            "num_phases",
            NumberValue(default=16, min=4, max=360, precision=0, step=1, type="int"),
            "Scan",
            "Phases, evenly spaced over a turn; the same at both nodes.",
        )
        self.setattr_argument(
            "update_configuration",
            BooleanValue(False),
            "Result",
            "Bob: write what was found into the configuration file, unless it is implausible.",
        )

    def prepare(self):
        if self.update_configuration and (self.role != "bob" or not self.configuration_file):
            raise ParameterError(
                "update_configuration is for Bob's node with configuration_file, the file to update"
            )
        self.makes_configuration = self.update_configuration
        self.phases = np.arange(int(self.num_phases)) / int(self.num_phases)
        super().prepare()

    def pairs(self):
        return [(0, index) for index in range(len(self.phases))]

    def pulses(self, configuration):
        if self.role == "alice":
            return [analysis_pulse(configuration, ALICE_TEST_SETTING, 0)]
        duration = configuration.analysis.pi_time_qubit / 2
        return [
            (configuration.analysis.frequency_of("qubit"), float(phase), duration) for phase in self.phases
        ]

    def conclude(self, rounds):
        won = rounds["alice_bright"] != rounds["bob_bright"]
        setting, pattern = rounds["pair"][:, 1], rounds["herald_pattern"]
        patterns = self.configuration.attempts.herald_patterns
        cells = [(pattern == known, known) for known in patterns]
        counts = [np.bincount(setting[chosen], minlength=len(self.phases)) for chosen, _ in cells]
        wins = [np.bincount(setting[chosen & won], minlength=len(self.phases)) for chosen, _ in cells]
        started = datetime.fromtimestamp(self.start_unix, UTC)
        self.result = result = CalibrationResult(
            calibration="pattern_phases",
            role="bob",
            time=started.isoformat(timespec="seconds"),
            finding=fit_pattern_phases(
                self.phases, np.array(wins), np.array(counts), [f"{known:04b}" for known in patterns]
            ),
            provenance=self.provenance() | {"num_rounds": self.num_rounds},
        )
        stem = f"pattern_phases_{started:%Y%m%dT%H%M%S}_{int(self.scheduler.rid):05d}"
        path = self.result_path = self.directory / f"{stem}.json"
        path.write_text(result.to_json(), encoding="utf-8")
        self.refusal = None
        if self.update_configuration:
            try:
                for change in apply_result(path, Path(self.configuration_file).expanduser()):
                    logger.info("%s: %s", self.configuration_file, change)
            except DiqkdError as error:
                self.refusal = error

    def write_results(self, rounds):
        figures.save(self.result, self.result_path.with_suffix(".png"))
        for name, quantity in self.result.finding.quantities.items():
            logger.info("%s = %s", name.replace("_", " "), quantity)
        logger.info("written: %s", self.result_path)
        if self.refusal is not None:
            raise self.refusal
