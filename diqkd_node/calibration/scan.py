"""Kernel of every scan: points in any order, shots within a point, results to the host, rest between.

One kernel runs a whole scan, because starting one takes longer than a point. It asks the host for the next
point (`ScanData.next_point`), which is where the host waits for laser and ion, or ends; shots leave in chunks
by asynchronous calls. Points may take hours: several times a second the kernel asks whether to go on
(`ScanData.goes_on`), and a point that was left is repeated. What a shot is, a subclass says.
"""

from artiq.coredevice.exceptions import RTIOUnderflow
from artiq.experiment import *

from diqkd_node.sequence.pulse_table import PulseTable
from diqkd_node.sequence.state_preparation import StatePreparation, StatePreparationBesideEntangler
from diqkd_node.sequence.steps import Steps
from diqkd_node.sequence.timebase import CYCLE_MU, machine_units

CAPACITY = 500
"""Numbers sent to the host at a time."""


class Scan(Steps):
    """Base of the scans. `data` is a `ScanData`; `shot` appends at most `MAX_PER_SHOT` numbers."""

    MAX_PER_SHOT = 1
    kernel_invariants = {"capacity", "room", "max_underflows", "check_mu"}

    def build(self, configuration, data, **tables):
        super().build(configuration, PulseTable.of_rounds(configuration))
        self.data = data
        if configuration.attempts.source == "entangler":
            self.preparation = StatePreparationBesideEntangler(self, configuration)
        else:
            self.preparation = StatePreparation(self, configuration)
        self.build_scan(**tables)

    def build_scan(self):
        """Further devices, and the tables of the points."""

    def mu(self, seconds):
        """Machine units in a time."""
        return machine_units(self.core, seconds)

    def prepare(self):
        self.call_child_method("prepare")
        self.capacity = CAPACITY
        self.room = CAPACITY - self.MAX_PER_SHOT
        self.max_underflows = self.configuration.batches.max_underflows
        self.check_mu = self.mu(self.configuration.batches.check_interval)

    @kernel
    def setup(self):
        """Reset the core and initialise the devices; ends at rest. Takes milliseconds."""
        self.core.reset()
        self.isolation.setup()
        self.cooling.setup()
        self.analysis.setup()
        self.preparation.setup()
        self.lock_monitor.setup()
        delay_mu(CYCLE_MU)
        self.setup_scan()
        self.rest()

    @kernel
    def setup_scan(self):
        """Initialise the further devices of a subclass. Breaks real time."""
        self.core.break_realtime()

    @kernel
    def run(self):
        """Run points until the host gives none; always leaves the node at rest."""
        try:
            self.setup()
            self.run_points()
        finally:
            self.come_to_rest()

    @kernel
    def run_points(self):
        """Points from the host. Breaks real time."""
        values = [0 for _ in range(self.capacity)]
        point = self.data.next_point(-1, True, True)
        while point >= 0:
            ion_present = self.look()
            if ion_present:
                self.begin_point(point)
                self.run_shots(point, values)
                # Without an ion every shot is dark: one that was lost since then spoils the point.
                ion_present = self.look()
            self.rest()
            self.lock_monitor.request()
            locked = self.lock_monitor.fetch()
            point = self.data.next_point(point, locked, ion_present)

    @kernel
    def look(self) -> TBool:
        """Whether an ion is there. Breaks real time and consumes all slack."""
        self.core.break_realtime()
        self.cooling.off()
        return self.ion_watch.present()

    @kernel
    def begin_point(self, point: TInt32):
        """What has to be done once, before the first shot of a point. Breaks real time."""
        self.core.break_realtime()

    @kernel
    def run_shots(self, point: TInt32, values: TList(TInt32)):
        """All shots of a point, unless the host wants to stop; one that meets an underflow is repeated.
        Breaks real time."""
        num_left = self.data.shots_of(point)
        self.core.break_realtime()
        t_check = now_mu() + self.check_mu
        in_chunk = 0
        num_values = 0
        underflows = 0
        while num_left > 0:
            try:
                num_values = self.shot(point, values, num_values)
                in_chunk += 1
                num_left -= 1
            except RTIOUnderflow:
                underflows += 1
                self.setup()  # a pulse may have begun that has no end
                if underflows > self.max_underflows:
                    raise
                self.begin_point(point)
            if num_values > self.room or num_left == 0:
                self.data.store(point, in_chunk, num_values, values)
                self.core.break_realtime()
                in_chunk = 0
                num_values = 0
            elif now_mu() > t_check:
                if not self.data.goes_on():
                    num_left = 0
                self.core.break_realtime()
                t_check = now_mu() + self.check_mu

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """One shot: append its numbers to `values` and return how many there are."""
        return num_values
