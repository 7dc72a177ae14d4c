"""Device database of Alice's node: a Kasli with DIO, Urukul and Fastino cards and the entangler core.

Crate, from the Kasli's EEM connectors:

    EEM0      DIO-BNC, outputs: laser switches, lines to Bob's crate
    EEM1      DIO-BNC, inputs: photon counting, laser lock, lines from Bob's crate
    EEM2/3    Urukul-AD9910 (urukul0): 674 nm, phase coherent
    EEM4/5    Urukul-AD9912 (urukul1): 422, 1092 and 1033 nm
    EEM6      Fastino: electrodes of the trap
    EEM7      DIO-BNC, outputs of the entangler core: the attempt sequence
    EEM8      DIO-BNC, inputs of the entangler core: APDs, reference of the picosecond pulse
    EEM9      LVDS link to Bob's entangler core
    EEM10     DIO-BNC, outputs: Alice's setting to Bob's crate, for `late-type`

EEM0 to EEM6 and EEM10 are standard gateware, described in `alice_kasli.json`; the entangler core comes behind
them (docs/bring_up.md). RTIO channel numbers are those of that build; change them here, never in an
experiment.
"""

CORE_ADDRESS = "192.168.1.70"


def _ttl_out(channel):
    return {
        "type": "local",
        "module": "artiq.coredevice.ttl",
        "class": "TTLOut",
        "arguments": {"channel": channel},
    }


def _ttl_in_out(channel):
    return {
        "type": "local",
        "module": "artiq.coredevice.ttl",
        "class": "TTLInOut",
        "arguments": {"channel": channel},
    }


def _edge_counter(channel):
    return {
        "type": "local",
        "module": "artiq.coredevice.edge_counter",
        "class": "EdgeCounter",
        "arguments": {"channel": channel},
    }


def _spi_master(channel):
    return {
        "type": "local",
        "module": "artiq.coredevice.spi2",
        "class": "SPIMaster",
        "arguments": {"channel": channel},
    }


def _ad9912(chip_select):
    # clk_div=0 on Urukul-AD9912 gives 100 MHz at the chip; pll_n=10 makes it 1 GHz.
    return {
        "type": "local",
        "module": "artiq.coredevice.ad9912",
        "class": "AD9912",
        "arguments": {"pll_n": 10, "chip_select": chip_select, "cpld_device": "urukul1_cpld"},
    }


device_db = {
    # Core device. 1 machine unit = 1 ns.
    "core": {
        "type": "local",
        "module": "artiq.coredevice.core",
        "class": "Core",
        "arguments": {"host": CORE_ADDRESS, "ref_period": 1e-9, "target": "rv32g"},
    },
    "core_log": {
        "type": "controller",
        "host": "::1",
        "port": 1068,
        "command": "aqctl_corelog -p {port} --bind {bind} " + CORE_ADDRESS,
    },
    "core_moninj": {
        "type": "controller",
        "host": "::1",
        "port_proxy": 1383,
        "port": 1384,
        "command": "aqctl_moninj_proxy --port-proxy {port_proxy} --port-control {port} --bind {bind} "
        + CORE_ADDRESS,
    },
    "core_cache": {"type": "local", "module": "artiq.coredevice.cache", "class": "CoreCache"},
    "core_dma": {"type": "local", "module": "artiq.coredevice.dma", "class": "CoreDMA"},
    #
    # Laser switches: RF switches in front of the acousto-optic modulators, high = light on. Those on the
    # Urukul cards stay closed (`rf_sw`).
    #
    # 422 nm Doppler cooling and readout beam, S1/2 - P1/2
    "ttl_422_cool": _ttl_out(0),
    # 1092 nm repumper, D3/2 - P1/2
    "ttl_1092": _ttl_out(1),
    # 1033 nm deshelving beam, D5/2 - P3/2
    "ttl_1033": _ttl_out(2),
    # 674 nm qubit beam, S1/2 - D5/2
    "ttl_674": _ttl_out(3),
    #
    # Lines to Bob's crate. Rising edges count; idle low.
    #
    # Handshake before the first window of a round: Alice raises ready, Bob answers with trigger.
    "ttl_ready": _ttl_out(4),
    "ttl_trigger": _ttl_in_out(12),
    # A bit on a line is valid at the rising edge of its strobe.
    # Token r, to Bob: released once this node is isolated.
    "ttl_token": _ttl_out(5),
    "ttl_token_strobe": _ttl_out(6),
    # Round type T, from Bob: 1 = test round, 0 = key round. The end token comes on the same line.
    "ttl_round_type": _ttl_in_out(13),
    "ttl_round_type_strobe": _ttl_in_out(14),
    # Setting x, to Bob: in key rounds of `late-type`.
    "ttl_setting": _ttl_out(38),
    "ttl_setting_strobe": _ttl_out(39),
    #
    # Photon counting of the node's own fluorescence, and its edge counter on the same input.
    "pmt": _ttl_in_out(8),
    "pmt_counter": _edge_counter(16),
    # 674 nm laser lock, from the laser's controller to both nodes: high = locked.
    "ttl_laser_lock": _ttl_in_out(9),
    #
    # Urukul 0, AD9910 at 1 GHz: the 674 nm beam. Channel 0 in single pass addresses all three transitions.
    # 94.0 MHz: S1/2 m=+1/2 - D5/2 m=-3/2 (mapping)
    # 108.0 MHz: S1/2 m=-1/2 - D5/2 m=-3/2 (optical qubit)
    # 119.2 MHz: S1/2 m=+1/2 - D5/2 m=+3/2 (shelving)
    #
    "spi_urukul0": _spi_master(24),
    # SYNC: without it every initialisation may move IO_UPDATE by up to 3 ns, 0.04 turns between mapping and
    # analysis. 125 MHz / 2 is a 16th of the clock of 1 GHz.
    "ttl_urukul0_sync": {
        "type": "local",
        "module": "artiq.coredevice.ttl",
        "class": "TTLClockGen",
        "arguments": {"channel": 25, "acc_width": 4},
    },
    "ttl_urukul0_io_update": _ttl_out(26),
    "urukul0_cpld": {
        "type": "local",
        "module": "artiq.coredevice.urukul",
        "class": "CPLD",
        "arguments": {
            "spi_device": "spi_urukul0",
            "io_update_device": "ttl_urukul0_io_update",
            "sync_device": "ttl_urukul0_sync",
            "sync_div": 2,
            "refclk": 125e6,
            "clk_sel": 2,
            "rf_sw": 0b0001,
        },
    },
    "dds_674": {
        "type": "local",
        "module": "artiq.coredevice.ad9910",
        "class": "AD9910",
        # Both belong to the board: 15 is the middle of the range, from where `init` tunes. Replace both by
        # what `artiq_sinara_tester` finds (docs/bring_up.md), again after a change of board or cable.
        "arguments": {
            "pll_n": 32,
            "chip_select": 4,
            "cpld_device": "urukul0_cpld",
            "sync_delay_seed": 15,
            "io_update_delay": 0,
        },
    },
    #
    # Urukul 1, AD9912: beams without phase requirements.
    #
    "spi_urukul1": _spi_master(31),
    "ttl_urukul1_io_update": _ttl_out(32),
    "urukul1_cpld": {
        "type": "local",
        "module": "artiq.coredevice.urukul",
        "class": "CPLD",
        "arguments": {
            "spi_device": "spi_urukul1",
            "io_update_device": "ttl_urukul1_io_update",
            # The compiler wants one type for `sync` of all cards. Never driven from here (division by 0): on
            # this card the line is the reset of the AD9912s.
            "sync_device": "ttl_urukul0_sync",
            "sync_div": 0,
            "refclk": 100e6,
            "clk_sel": 1,
            "rf_sw": 0b0111,
        },
    },
    # double-pass modulator of the 422 nm cooling beam
    "dds_422": _ad9912(4),
    # 1092 nm
    "dds_1092": _ad9912(5),
    # 1033 nm
    "dds_1033": _ad9912(6),
    #
    # Trap electrodes. Channels 15, 16, 23 and 24 drive Q15, Q16, Q23 and Q24, which move the ion along the
    # trap axis: 0 V offset = in the focus of the collection lens, +1 V on all four = 3 um out of it.
    #
    "fastino": {
        "type": "local",
        "module": "artiq.coredevice.fastino",
        "class": "Fastino",
        "arguments": {"channel": 37, "log2_width": 0},
    },
    #
    # Entangler core: runs attempts at 1 MHz and watches the heralding station's four detectors.
    # Alice is the slave; master and slave synchronise every window by themselves.
    #
    "entangler": {
        "type": "local",
        "module": "entangler.driver",
        "class": "Entangler",
        "arguments": {"channel": 59, "is_master": False},
    },
    #
    # Its outputs and inputs as ordinary TTLs, for `herald_source = "ttl"`: attempts without the core.
    #
    # 422 nm sigma-polarised optical pumping beam, and the pulse picker of the 422 nm picosecond laser
    "ttl_422_sigma": _ttl_out(49),
    "ttl_422_ps": _ttl_out(51),
    # the four single-photon detectors of the heralding station, in the order of a herald pattern (LSB first)
    "apd0": _ttl_in_out(54),
    "apd1": _ttl_in_out(55),
    "apd2": _ttl_in_out(56),
    "apd3": _ttl_in_out(57),
    #
    # Random bits for this node's measurement settings: a Quantis generator read by this PC.
    #
    "qrng": {
        "type": "local",
        "module": "diqkd_node.random_source",
        "class": "QuantisDevice",
        "arguments": {"path": "/dev/qrandom0"},
    },
    #
    # Controllers, started by artiq_ctlmgr on this PC.
    #
    # The same generator in the hands of one process that tests it between runs too. To let runs read through
    # it, replace the entry "qrng" by the alias "qrng": "quantis".
    "quantis": {
        "type": "controller",
        "host": "::1",
        "port": 3281,
        "command": "aqctl_quantis -p {port} --device /dev/qrandom0",
        "ping_timeout": 120,
    },
    # The laser lock as seen by the PC, from a pin that carries the same signal as ttl_laser_lock.
    "laser_lock": {
        "type": "controller",
        "host": "::1",
        "port": 3282,
        "command": "aqctl_laser_lock -p {port} --device /sys/class/gpio/gpio17/value",
    },
}
