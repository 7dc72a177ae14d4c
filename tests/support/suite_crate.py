"""Device database of a crate for ARTIQ's own tests of core devices, by the names that they look for.

A file of its own, not an import: ARTIQ reads it as `device_db.py`. The core's address comes from the
environment.
"""

import os


def _local(module, class_name, **arguments):
    return {
        "type": "local",
        "module": f"artiq.coredevice.{module}",
        "class": class_name,
        "arguments": arguments,
    }


device_db = {
    "core": _local(
        "core", "Core", host=os.environ.get("SUITE_CORE_ADDRESS"), ref_period=1e-9, target="rv32g"
    ),
    "core_cache": _local("cache", "CoreCache"),
    "core_dma": _local("dma", "CoreDMA"),
    "i2c_switch": _local("i2c", "I2CSwitch"),
    "loop_out": _local("ttl", "TTLInOut", channel=0),
    "loop_in": _local("ttl", "TTLInOut", channel=1),
    "loop_in_counter": _local("edge_counter", "EdgeCounter", channel=2),
    "loop_clock_out": _local("ttl", "TTLClockGen", channel=3),
    "loop_clock_in": _local("ttl", "TTLInOut", channel=4),
    "ttl_out": _local("ttl", "TTLOut", channel=5),
    "ttl_out_serdes": "ttl_out",
    "ttl_inout": _local("ttl", "TTLInOut", channel=6),
    "led": _local("ttl", "TTLOut", channel=7),
    "led0": "led",
    "spi_urukul": _local("spi2", "SPIMaster", channel=8),
    "urukul_sync": _local("ttl", "TTLClockGen", channel=9, acc_width=4),
    "urukul_io_update": _local("ttl", "TTLOut", channel=10),
    "urukul_cpld": _local(
        "urukul",
        "CPLD",
        spi_device="spi_urukul",
        sync_device="urukul_sync",
        io_update_device="urukul_io_update",
        refclk=125e6,
        clk_sel=2,
    ),
    "urukul_ch0": _local(
        "ad9910", "AD9910", pll_n=32, chip_select=4, cpld_device="urukul_cpld", sw_device="urukul_sw0"
    ),
    "urukul_sw0": _local("ttl", "TTLOut", channel=11),
    "urukul_ch1": _local(
        "ad9912", "AD9912", pll_n=8, chip_select=5, cpld_device="urukul_cpld", sw_device="urukul_sw1"
    ),
    "urukul_sw1": _local("ttl", "TTLOut", channel=12),
    "urukul_ch3": _local(
        "ad9910", "AD9910", pll_n=32, chip_select=7, cpld_device="urukul_cpld", sw_device="urukul_sw3"
    ),
    "urukul_sw3": _local("ttl", "TTLOut", channel=13),
}
CABLES = {"loop_out": "loop_in", "loop_clock_out": "loop_clock_in"}
