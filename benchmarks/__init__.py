"""What measures speed. Run from a checkout, for example `python -m benchmarks.host_engine`."""

import sim_devices  # noqa: F401  its import makes `artiq` importable where ARTIQ is not installed
