"""Exception of the gateware edge counters."""


class CounterOverflow(Exception):
    """The count may have overflowed the gateware counter."""
