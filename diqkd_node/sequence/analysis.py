"""674 nm pulses after a herald: mapping to the optical qubit, then the measurement basis (SI S2 B and C).

All pulses take their phase from the time of the herald (tracking mode): between the two S1/2 -> D5/2
transitions only the radio-frequency beat note counts, and it starts with the ion-ion state.
"""

from artiq.coredevice.ad9910 import PHASE_MODE_TRACKING
from artiq.experiment import *

from diqkd_node.sequence.pulse_table import NUM_COLUMNS
from diqkd_node.sequence.timebase import machine_units


class Analysis(HasEnvironment):
    """Pulses of one node; which pulse belongs to a setting and a herald pattern, `pulse_table` says."""

    kernel_invariants = {
        "latency_mu",
        "set_mu",
        "pi_mu",
        "frequency_map",
        "amplitude",
        "attenuation",
        "num_patterns",
        "pulse_frequency",
        "pulse_phase",
        "pulse_mu",
        "longest_mu",
    }

    def build(self, configuration, pulse_table):
        self.configuration = configuration
        self.pulse_table = pulse_table
        for key in ("core", "urukul0_cpld", "dds_674", "ttl_674"):
            self.setattr_device(key)

    def prepare(self):
        analysis = self.configuration.analysis
        self.latency_mu = machine_units(self.core, analysis.herald_latency)
        self.set_mu = machine_units(self.core, analysis.dds_set_time + analysis.pulse_gap)
        self.pi_mu = machine_units(self.core, analysis.pi_time_of("map"))
        self.frequency_map = analysis.frequency_of("map")
        self.amplitude = analysis.amplitude
        self.attenuation = self.configuration.beams.attenuation
        self.num_patterns = NUM_COLUMNS
        pulses = [pulse for row in self.pulse_table.pulses for pulse in row]
        self.pulse_frequency = [frequency for frequency, _, _ in pulses]
        self.pulse_phase = [phase for _, phase, _ in pulses]
        self.pulse_mu = [machine_units(self.core, duration) for _, _, duration in pulses]
        self.longest_mu = max(self.pulse_mu)

    @kernel
    def setup(self):
        """Initialise the 674 nm synthesiser. Breaks real time."""
        self.core.break_realtime()
        self.urukul0_cpld.init()
        self.core.break_realtime()
        self.dds_674.init()
        self.core.break_realtime()
        self.dds_674.set_att(self.attenuation)
        self.ttl_674.off()

    @kernel
    def play(
        self, t_reference: TInt64, frequency: TFloat, phase: TFloat, amplitude: TFloat, duration_mu: TInt64
    ):
        """One pulse, its phase (turns) tracked from `t_reference`. Advances by setting time and duration."""
        t_set = now_mu()
        self.dds_674.set(
            frequency,
            phase=phase,
            amplitude=amplitude,
            phase_mode=PHASE_MODE_TRACKING,
            ref_time_mu=t_reference,
        )
        at_mu(t_set + self.set_mu)
        self.ttl_674.pulse_mu(duration_mu)

    @kernel
    def map_qubit(self, t_herald: TInt64):
        """Transfer S1/2 m=+1/2 to D5/2 m=-3/2. Leaves the cursor at the end of the pulse."""
        at_mu(t_herald + self.latency_mu)
        self.play(t_herald, self.frequency_map, 0.0, self.amplitude, self.pi_mu)

    @kernel
    def select_basis(self, t_herald: TInt64, setting: TInt32, pattern_index: TInt32):
        """Play the pulse of a setting: a rotation of the optical qubit, or shelving for the computational
        basis. Leaves the cursor at the end of the longest pulse, whatever the setting: what follows, up to
        the next handshake, comes at times that do not tell it."""
        i = setting * self.num_patterns + pattern_index
        t_set = now_mu()
        self.play(t_herald, self.pulse_frequency[i], self.pulse_phase[i], self.amplitude, self.pulse_mu[i])
        at_mu(t_set + self.set_mu + self.longest_mu)
