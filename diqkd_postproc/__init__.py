"""From the private records of two ion-trap nodes to a device-independent secret key.

Data flows one way: records -> reconciliation -> validation -> privacy amplification -> key store.
Protocol and symbols: Nadlinger et al., Nature 607, 682 (2022), arXiv:2109.14600v2.
"""

__version__ = "0.1.0"
