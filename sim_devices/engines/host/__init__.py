"""Host engine: kernels as host Python on a simulated RTIO timeline."""
