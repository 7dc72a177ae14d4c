"""674 nm lines of 88Sr+ in the magnetic field, on the scale of the modulator that tunes the laser to them.

Without a field all lines of S1/2 to D5/2 are one; each moves in proportion to it. So two numbers give them
all: where that one is, and the field. With Landé's factors of S1/2 and D5/2 the three lines that a node
drives lie, at 0.500 mT, at 108.0 MHz (the qubit), 14.0 MHz below it (mapping) and 11.2 MHz above it
(shelving), and move by -11.2, -39.2 and +11.2 MHz/mT (SI Table S3).

    >>> [round(1e-6 * line_frequency(line, 0.5e-3), 1) for line in ("map", "qubit", "shelve")]
    [94.0, 108.0, 119.2]
"""

BOHR_MAGNETON = 13.996_244_9e9
"""Hz/T, over Planck's constant (CODATA 2018)."""

ELECTRON_G = 2.002_319

PUBLISHED_FIELD = 0.5e-3
"""T (SI section S2)."""

LINES = {"map": (0.5, -1.5), "qubit": (-0.5, -1.5), "shelve": (0.5, 1.5)}
"""m of S1/2 and of D5/2."""


def lande_factor(l: int, j: float) -> float:  # noqa: E741 (the quantum number)
    """g of a level of one electron with orbital angular momentum `l` and total angular momentum `j`."""
    s = 0.5
    return 1.0 + (ELECTRON_G - 1.0) * (j * (j + 1) + s * (s + 1) - l * (l + 1)) / (2 * j * (j + 1))


G_S = lande_factor(0, 0.5)
G_D = lande_factor(2, 2.5)


def line_shift(line: str, field: float) -> float:
    """Hz by which a field (T) shifts "map", "qubit" or "shelve"."""
    lower, upper = LINES[line]
    return (G_D * upper - G_S * lower) * BOHR_MAGNETON * field


ZERO_FIELD_FREQUENCY = 108.0e6 - line_shift("qubit", PUBLISHED_FIELD)
"""Hz, from the published field and the qubit line of the device databases."""


def line_frequency(line: str, field: float, zero_field_frequency: float = ZERO_FIELD_FREQUENCY) -> float:
    """Frequency (Hz) of "map", "qubit" or "shelve" in a field (T)."""
    return zero_field_frequency + line_shift(line, field)


def field_of(frequency_map: float, frequency_qubit: float) -> tuple[float, float]:
    """(field in T, frequency without field in Hz) from two measured lines."""
    field = (frequency_map - frequency_qubit) / (line_shift("map", 1.0) - line_shift("qubit", 1.0))
    return field, frequency_qubit - line_shift("qubit", field)
