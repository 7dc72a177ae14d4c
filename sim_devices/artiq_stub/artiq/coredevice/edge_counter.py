"""Exception of the gateware edge counters."""
# ruff: noqa: N818  (the names are ARTIQ's)


class CounterOverflow(Exception):
    """The count may have overflowed the gateware counter."""
