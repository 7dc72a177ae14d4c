"""Simulated devices: engines that run kernels without hardware, drivers, physics, the laboratory."""
