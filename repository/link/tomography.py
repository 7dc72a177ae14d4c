"""Tomography of the ions' joint state after each herald pattern, in 25 setting pairs (SI section S2 B)."""

import logging

from artiq.experiment import *

from diqkd_node.run.two_node_scan import TwoNodeScan
from diqkd_node.sequence.pulse_table import analysis_pulse
from diqkd_postproc.link.tomography import analyse
from diqkd_postproc.link.tomography_counts import ANALYSIS_PHASE_TURNS, OBSERVABLES, TomographyCounts
from diqkd_postproc.protocol.roles import KEY_SETTING
from diqkd_postproc.report.tomography_files import COUNTS_NAME, write_results

logger = logging.getLogger(__name__)


class Tomography(TwoNodeScan, EnvExperiment):
    """State tomography

    Measures both ions in all pairs of X, Y, -X, -Y and Z and estimates the state after each herald pattern.
    The published data set has 180 000 heralds."""

    scan = "tomography"
    default_rounds = 180_000
    default_directory = "~/diqkd/tomography"

    def build(self):
        super().build()
        self.setattr_argument(
            "num_resamples",
            NumberValue(default=200, min=2, max=10_000, precision=0, step=10, type="int"),
            "Analysis",
            "Bootstrap samples behind the stated errors.",
        )

    def pairs(self):
        # Z twice as often as the others at each node, as in the published data set.
        plays = [*range(len(OBSERVABLES)), OBSERVABLES.index("Z")]
        return [(first, second) for first in plays for second in plays]

    def pulses(self, configuration):
        rotations = {
            name: (
                configuration.analysis.frequency_of("qubit"),
                phase,
                configuration.analysis.pi_time_qubit / 2,
            )
            for name, phase in ANALYSIS_PHASE_TURNS.items()
        }
        shelving = analysis_pulse(configuration, KEY_SETTING[self.role], 0)
        return [rotations.get(name, shelving) for name in OBSERVABLES]

    def show_analysis(self, stage, done, total):
        """Progress of the analysis, for the dashboard and for `diqkd node`."""
        if stage != "bootstrap":
            return  # the estimate itself takes no time
        self.set_dataset("tomography.num_samples", int(total), broadcast=True)
        self.set_dataset("tomography.samples_done", int(done), broadcast=True)

    def write_results(self, rounds):
        first, second = rounds["pair"].astype(int).T
        eigenstate = 2 * ~rounds["alice_bright"] + ~rounds["bob_bright"]
        counts = TomographyCounts.of_rounds(
            rounds["herald_pattern"], len(OBSERVABLES) * first + second, eigenstate
        )
        counts.write(self.directory / COUNTS_NAME)
        self.result = analyse(counts, int(self.num_resamples), progress=self.show_analysis)
        files = write_results(self.result, self.directory, self.provenance())
        for name, pattern in self.result.by_pattern.items():
            logger.info(
                "%s: fidelity %.2f +- %.2f %%, phase %.3f +- %.3f rad",
                name,
                100 * pattern.fidelity.value,
                100 * pattern.fidelity.standard_error,
                pattern.phase.value,
                pattern.phase.standard_error,
            )
        mean = self.result.mean_fidelity
        logger.info("mean fidelity %.2f +- %.2f %%", 100 * mean.value, 100 * mean.standard_error)
        logger.info("written: %s", ", ".join(files.values()))
