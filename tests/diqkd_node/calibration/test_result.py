"""Quantities of a calibration as they are printed."""

import pytest

from diqkd_node.calibration.result import Quantity


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity(4.93e-6, 1.2e-8, "s"), "4.930 ± 0.012 µs"),
        (Quantity(107.99967e6, 130.0, "Hz"), "107.99967 ± 0.00013 MHz"),
        (Quantity(1.66e-4, 6.3e-8, ""), "(1.66000 ± 0.00063)e-4"),
        (Quantity(30, 0.0, ""), "30"),
        (Quantity(0.0, 1e-5, "", low=0.0, high=3.6e-5), "0, at most 3.6e-05 (95 %)"),
    ],
)
def test_quantities_are_printed_with_their_error(quantity: Quantity, text: str) -> None:
    assert str(quantity) == text
