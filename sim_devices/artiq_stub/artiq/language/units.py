"""SI units as factors: `5 * us` is 5e-6."""

__all__ = []

_EXPONENT = {"p": -12, "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}
_PREFIXES = {
    "s": ("p", "n", "u", "m", ""),
    "Hz": ("m", "", "k", "M", "G"),
    "dB": ("",),
    "V": ("u", "m", "", "k"),
    "A": ("u", "m", ""),
    "W": ("n", "u", "m", ""),
}

for _unit, _unit_prefixes in _PREFIXES.items():
    for _prefix in _unit_prefixes:
        globals()[_prefix + _unit] = 10.0 ** _EXPONENT[_prefix]
        __all__.append(_prefix + _unit)
