"""Real-time line with the state of the 674 nm laser's lock to its cavity (1 = locked)."""

from artiq.experiment import *


class LockMonitor(HasEnvironment):
    """Reads the lock line, which both nodes see."""

    def build(self, configuration):
        self.setattr_device("core")
        self.setattr_device("ttl_laser_lock")

    @kernel
    def setup(self):
        """Make the line an input. Breaks real time."""
        self.core.break_realtime()
        self.ttl_laser_lock.input()

    @kernel
    def request(self):
        """Sample the line at the cursor, which does not move; `fetch` gives the answer."""
        self.ttl_laser_lock.sample_input()

    @kernel
    def fetch(self) -> TBool:
        """Answer to the last request: True if the laser is locked. Does not move the cursor."""
        return self.ttl_laser_lock.sample_get() == 1
