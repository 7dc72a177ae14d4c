"""Simulated devices: two nodes and the laboratory between them.

Importing any module of this package makes `import artiq` work: with a real ARTIQ where there is one, else
with the stand-in of `artiq_stub`. It has to happen here, before any module of the package imports `artiq`.
"""

from sim_devices.artiq_stub import install

install()
