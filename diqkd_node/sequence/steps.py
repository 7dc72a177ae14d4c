"""The steps of rounds and of calibration shots, and the state that a node rests in between them."""

from artiq.experiment import *

from diqkd_node.sequence.analysis import Analysis
from diqkd_node.sequence.cooling import Cooling
from diqkd_node.sequence.ion_watch import IonWatch
from diqkd_node.sequence.isolation import Isolation
from diqkd_node.sequence.lock_monitor import LockMonitor
from diqkd_node.sequence.readout import Readout
from diqkd_node.sequence.scrambling import Scrambling
from diqkd_node.sequence.timebase import CYCLE_MU


class Steps(HasEnvironment):
    """Base of `Node` and of the calibrations' `Scan`, which add how photons are made."""

    def build(self, configuration, pulse_table):
        self.configuration = configuration
        self.setattr_device("core")
        self.cooling = Cooling(self, configuration)
        self.isolation = Isolation(self, configuration)
        self.analysis = Analysis(self, configuration, pulse_table)
        self.readout = Readout(self, configuration)
        self.scrambling = Scrambling(self, configuration)
        self.lock_monitor = LockMonitor(self, configuration)
        self.ion_watch = IonWatch(self, configuration)

    @kernel
    def rest(self):
        """Disconnect the link and cool, for as long as nothing else is asked. Breaks real time."""
        self.core.break_realtime()
        delay_mu(CYCLE_MU)
        self.analysis.ttl_674.off()
        self.cooling.stay_on()
        self.isolation.disconnect()
        self.release()

    @kernel
    def come_to_rest(self):
        """Rest, and wait until that has happened: the last thing that a kernel does. Consumes all slack.

        A reset by what runs next, an idle kernel for one, would erase events that are still to come.
        """
        self.rest()
        self.core.wait_until_mu(now_mu())

    @kernel
    def release(self):
        """What else a subclass gives up when it rests. Advances by a coarse cycle at most."""
        delay_mu(CYCLE_MU)
