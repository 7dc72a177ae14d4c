"""674 nm pulses after a herald: mapping to the optical qubit, then the measurement basis (SI S2 B and C).

All pulses take their phase from the time of the herald (tracking mode): between the two S1/2 -> D5/2
transitions only the radio-frequency beat note counts, and it starts with the ion-ion state. The synthesiser's
words are computed on the host: floating-point conversions would take the kernel's time between two edges.
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
        "map_words",
        "attenuation",
        "num_patterns",
        "pulse_ftw",
        "pulse_pow",
        "pulse_asf",
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
        self.map_words = self.words_of(analysis.frequency_of("map"), 0.0, analysis.amplitude)
        self.attenuation = self.configuration.beams.attenuation
        self.num_patterns = NUM_COLUMNS
        pulses = [pulse for row in self.pulse_table.pulses for pulse in row]
        words = [self.words_of(frequency, phase, analysis.amplitude) for frequency, phase, _ in pulses]
        self.pulse_ftw, self.pulse_pow, self.pulse_asf = (list(column) for column in zip(*words, strict=True))
        self.pulse_mu = [machine_units(self.core, duration) for _, _, duration in pulses]
        self.longest_mu = max(self.pulse_mu)

    def words_of(self, frequency, phase, amplitude):
        """Tuning word, phase word and amplitude word of Hz, turns and a part of full scale."""
        dds = self.dds_674
        return dds.frequency_to_ftw(frequency), dds.turns_to_pow(phase), dds.amplitude_to_asf(amplitude)

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
    def play(self, t_reference: TInt64, ftw: TInt32, pow: TInt32, asf: TInt32, duration_mu: TInt64):
        """One pulse of `words_of`, its phase tracked from `t_reference`. Advances by setting time and
        duration."""
        t_set = now_mu()
        self.dds_674.set_mu(ftw, pow, asf, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=t_reference)
        at_mu(t_set + self.set_mu)
        self.ttl_674.pulse_mu(duration_mu)

    @kernel
    def map_qubit(self, t_herald: TInt64):
        """Transfer S1/2 m=+1/2 to D5/2 m=-3/2. Leaves the cursor at the end of the pulse."""
        at_mu(t_herald + self.latency_mu)
        self.map_from(t_herald)

    @kernel
    def map_from(self, t_reference: TInt64):
        """The mapping pulse at the cursor, its phase tracked from `t_reference`."""
        ftw, pow, asf = self.map_words
        self.play(t_reference, ftw, pow, asf, self.pi_mu)

    @kernel
    def select_basis(self, t_herald: TInt64, setting: TInt32, pattern_index: TInt32):
        """Play the pulse of a setting: a rotation of the optical qubit, or shelving for the computational
        basis. Leaves the cursor at the end of the longest pulse, whatever the setting: what follows, up to
        the next handshake, comes at times that do not tell it."""
        i = setting * self.num_patterns + pattern_index
        t_set = now_mu()
        self.play(t_herald, self.pulse_ftw[i], self.pulse_pow[i], self.pulse_asf[i], self.pulse_mu[i])
        at_mu(t_set + self.set_mu + self.longest_mu)
