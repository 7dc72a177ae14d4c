"""An ion that its node prepares and reads alone, against closed forms."""

import math

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.apparatus.electrodes import Electrodes
from sim_devices.apparatus.local_ion import LocalIon
from sim_devices.apparatus.station import Station
from sim_devices.apparatus.trapped_ion import TrappedIon
from sim_devices.physics.constants import ELECTRODE_CHANNELS, TRANSITIONS
from sim_devices.physics.node_parameters import Nature

IDEAL = {"pumping_error": 0.0, "pulse_error": 0.0}
MAP, QUBIT, SHELVE = (frequency for frequency, *_ in TRANSITIONS)


def population(nature: Nature, *pulses: tuple[int, int, float, float]) -> float:
    """S1/2 population after pulses (start, duration in ns, frequency, phase in turns)."""
    ion = LocalIon(nature)
    ion.pump(-10_000, 0)
    for start, duration, frequency, phase in pulses:
        ion.drive(start, start + duration, frequency, phase, 0.5, 0)
    return ion.ground_population()


@pytest.mark.parametrize("frequency", [MAP, SHELVE])
def test_pulses_from_the_pumped_level_flop(frequency: float) -> None:
    nature = Nature.of_role("alice", **IDEAL)
    for duration in (0, 1250, 2500, 5000, 7500):
        expected = math.cos(math.pi * duration / 10_000) ** 2
        assert population(nature, (1000, duration, frequency, 0.0)) == pytest.approx(expected, abs=1e-12)


def test_the_qubit_is_driven_only_once_it_is_mapped() -> None:
    nature = Nature.of_role("alice", **IDEAL)
    assert population(nature, (1000, 5000, QUBIT, 0.0)) == pytest.approx(1.0)
    mapped_back = population(nature, (1000, 5000, MAP, 0.0), (14_000, 5000, QUBIT, 0.0))
    assert mapped_back == pytest.approx(1.0, abs=1e-4)
    assert population(nature, (1000, 5000, MAP, 0.0)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("frequency", "factor"), [(QUBIT, 1.0), (MAP, 39.2 / 11.2)])
def test_ramsey_contrast_is_gaussian_with_the_time_of_the_transition(frequency: float, factor: float) -> None:
    """SI Table S3: the transitions' coherence times are as their field sensitivities. D5/2 decays besides."""
    nature = Nature.of_role("bob", **IDEAL)
    first = [(1000, 5000, MAP, 0.0)] if frequency == QUBIT else []
    for wait in (1_000_000, 3_000_000, 6_000_000):
        fringe = [
            population(
                nature, *first, (20_000, 2500, frequency, 0.0), (20_000 + wait, 2500, frequency, phase)
            )
            for phase in (0.0, 0.5)
        ]
        decay = math.exp(-1e-9 * wait / (2 * 0.39))
        contrast = math.exp(-((factor * 1e-9 * wait / nature.coherence_time) ** 2)) * decay
        assert abs(fringe[0] - fringe[1]) == pytest.approx(contrast, abs=2e-3)


def test_short_pumping_leaves_the_other_level() -> None:
    ion = LocalIon(Nature.of_role("alice", **IDEAL))
    ion.pump(0, 100)  # one time constant
    ion.drive(1000, 6000, MAP, 0.0, 0.5, 0)
    assert ion.ground_population() == pytest.approx(0.5 * math.exp(-1))


def test_electrodes_follow_steps_behind_a_low_pass() -> None:
    electrodes = Electrodes(Nature())
    step = electrodes.noting(lambda *_: None)
    for channel in ELECTRODE_CHANNELS:
        step(100_000, channel, 1.0)
    for channel in ELECTRODE_CHANNELS:
        step(160_000, channel, 0.0)
    times = np.array([0.0, 100_000.0, 130_000.0, 160_000.0, 190_000.0])
    out = 1 - math.exp(-2)
    expected = 3.0 * np.array([0.0, 0.0, 1 - math.exp(-1), out, out * math.exp(-1)])
    np.testing.assert_allclose(electrodes.displacement_um(times), expected, atol=1e-9)


def test_electrodes_forget_only_what_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.choice([8, 20_000, 4_000_000], 20_000, p=[0.75, 0.2, 0.05]))
    steps = list(
        zip(times.tolist(), rng.choice(ELECTRODE_CHANNELS, times.size), rng.random(times.size), strict=True)
    )
    asked = times[-10].astype(float) + np.arange(0.0, 1e5, 1e3)
    displacements = []
    for max_noted in (4096, 10**9):
        monkeypatch.setattr("sim_devices.apparatus.electrodes._MAX_NOTED", max_noted)
        electrodes = Electrodes(Nature())
        note = electrodes.noting(lambda *_: None)
        for step in steps:
            note(*step)
        displacements.append(electrodes.displacement_um(asked))
    np.testing.assert_allclose(*displacements, rtol=1e-12)


def test_the_station_counts_what_couples() -> None:
    """Means of Poisson counts, six standard errors: 2e-9 each."""
    nature = Nature.of_role("alice")
    electrodes = Electrodes(nature)
    step = electrodes.noting(lambda *_: None)
    rng = np.random.default_rng(3)
    ion = TrappedIon(LocalIon(nature), rng.random)
    station = Station(nature, rng, electrodes, ion, lambda start, stop: (start, stop))
    for volts, at in ((0.0, 0), (0.2, 10_000_000)):
        for channel in ELECTRODE_CHANNELS:
            step(at, channel, volts)
        start = at + 1_000_000
        counted = sum(station.count(index, start, start + 5_000_000) for index in range(4))
        expected = 5e-3 * (nature.station_count_rate * nature.coupling(3.0 * volts) + 110.0)
        assert abs(counted - expected) < 6 * math.sqrt(expected)
        clicks, time = 0, start
        while (time := station.first_click(2, time, start + 5_000_000) + 1) > 0:
            clicks += 1
        assert clicks == station.count(2, start, start + 5_000_000)


def test_a_nature_with_a_mistake_is_refused() -> None:
    with pytest.raises(ParameterError, match="nature has no qubit_frequenzy"):
        Nature.of_role("alice", qubit_frequenzy=1.0)
    with pytest.raises(ParameterError, match="coherence_time must be positive"):
        Nature.of_role("alice", coherence_time=0.0)
    with pytest.raises(ParameterError, match="photon_probability=2"):
        Nature.of_role("alice", photon_probability=2)
    with pytest.raises(ParameterError, match="cannot read the simulated nature"):
        Nature.load("/nowhere.json", "alice")
