"""Simulated RTIO drivers with the constructor arguments and methods of the real ones.

Each driver takes one more argument, `key`: its name at the device "apparatus", which says what hangs on the
channel. All methods are closures bound at construction to the timeline and to the apparatus, because the
kernel of one round makes dozens of calls and each must stay below a microsecond of host time.
"""
