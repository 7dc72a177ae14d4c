"""Constants of the Urukul CPLD."""

DEFAULT_PROFILE = 7
STA_PROTO_REV_8 = 0x08
STA_PROTO_REV_9 = 0x09
