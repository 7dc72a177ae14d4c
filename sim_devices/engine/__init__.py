"""The host engine: runs kernels as host Python on a simulated RTIO timeline."""

from sim_devices import artiq_stub

# here, so that every module of this package can import `artiq` like any other library
artiq_stub.install()
