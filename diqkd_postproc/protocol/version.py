"""Version of the package, which records and results carry as provenance.

A module of its own: the package's public names come from every layer, which no lower layer may import.
"""

__version__ = "0.1.0"
