"""A node's photons against populations that are followed attempt by attempt."""

import math

import numpy as np
import pytest

from diqkd_node.configuration import NodeConfiguration
from sim_devices.engines.entangler_core import (
    CONFIG,
    CYCLE_LENGTH,
    PUMPING_OUTPUT,
    REPUMPING_OUTPUT,
    TIMING,
    NodeCore,
    timing_word,
)
from sim_devices.physics.node_parameters import Nature
from sim_devices.physics.photon_source import (
    PUBLISHED_LIGHT,
    PUBLISHED_SOURCE,
    TO_D,
    TO_PLUS,
    AttemptLight,
    photon_source,
)
from tests.support.fake_apparatus import FakeApparatus


def photons_of_the_last(num_attempts: int, nature: Nature, pumping_ns: int, repumping_ns: int) -> float:
    """Probability that the last of a row of attempts excites the ion; populations m=-1/2, m=+1/2, D3/2."""
    pumped = 1 - math.exp(-1e-9 * pumping_ns / nature.pumping_time)
    repumped = 1 - math.exp(-1e-9 * repumping_ns / nature.repumping_time)
    excitation = math.sin(nature.pulse_area * math.pi / 2) ** 2
    minus, plus, away = 1.0, 0.0, 0.0
    for _ in range(num_attempts):
        minus, away = minus + repumped * away, (1 - repumped) * away
        total = minus + plus
        minus, plus = (
            (1 - pumped) * minus + pumped * (1 - nature.pumping_error) * total,
            (1 - pumped) * plus + pumped * nature.pumping_error * total,
        )
        excited = excitation * minus
        minus -= excited
        away += TO_D * excited
        plus += (1 - TO_D) * TO_PLUS * excited
        minus += (1 - TO_D) * (1 - TO_PLUS) * excited
    return excited


@pytest.mark.parametrize(
    ("pumping_ns", "repumping_ns", "nature"),
    [
        (496, 600, Nature()),
        (200, 600, Nature()),
        (100, 600, Nature(pulse_area=0.8)),
        (496, 200, Nature()),
        (496, 600, Nature(pumping_error=0.1)),
        (496, 600, Nature(pulse_area=0.5)),
    ],
)
def test_brightness_is_that_of_a_long_row_of_attempts(
    pumping_ns: int, repumping_ns: int, nature: Nature
) -> None:
    """To the order in which D3/2 is mixed with pumping: a part in a hundred."""
    source = photon_source(nature, AttemptLight(pumping_ns, repumping_ns, 664))
    followed = photons_of_the_last(3000, nature, pumping_ns, repumping_ns)
    published = photons_of_the_last(3000, Nature(), 496, 600)
    assert source.brightness == pytest.approx(followed / published, rel=0.01)


@pytest.mark.parametrize(
    "light", [AttemptLight(0, 600, 664), AttemptLight(496, 0, 656), AttemptLight(496, 600, None)]
)
def test_without_pumping_repumping_or_pulse_there_is_no_photon(light: AttemptLight) -> None:
    assert photon_source(Nature(), light).brightness == 0.0


def test_default_configuration_is_the_published_source() -> None:
    """To the bit: records of a seed do not depend on this module."""
    attempts = NodeConfiguration(role="bob").attempts
    for config in (0b011, 0b001):
        core = NodeCore(FakeApparatus())
        core.write(CONFIG, config)
        core.write(CYCLE_LENGTH, round(attempts.attempt_time / 8e-9) - 4)
        for output, (start, stop) in enumerate(attempts.outputs):
            word = timing_word(TIMING + output, round(1e9 * start), round(1e9 * stop))
            core.write(TIMING + output, word)
        light = AttemptLight(core.lit_ns(PUMPING_OUTPUT), core.lit_ns(REPUMPING_OUTPUT), core.trigger_ns)
        assert light == PUBLISHED_LIGHT
        assert photon_source(Nature(), light) == PUBLISHED_SOURCE
    assert PUBLISHED_SOURCE.brightness == 1.0


def test_a_later_pulse_makes_later_photons() -> None:
    source = photon_source(Nature(), AttemptLight(496, 600, 664 + 16))
    assert np.isclose(source.time_ns - PUBLISHED_SOURCE.time_ns, 16)
