"""Experiments and their arguments as the dashboard shows them."""

import runpy
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from artiq.experiment import EnvExperiment, NumberValue

from tests.support.paths import ROOT


class Collector:
    """An argument manager that answers with the defaults and keeps the numbers that were asked for."""

    def __init__(self) -> None:
        self.numbers: dict[str, NumberValue] = {}

    def get(self, key: str, processor: Any, *_: Any) -> Any:
        if isinstance(processor, NumberValue):
            self.numbers[key] = processor
        return processor.default()


@pytest.mark.parametrize("path", sorted((ROOT / "repository").rglob("*.py")), ids=lambda path: path.stem)
def test_a_step_of_a_number_is_not_rounded_away(path: Path) -> None:
    """A field that shows whole microseconds cannot be stepped by a tenth, ARTIQ's default."""
    collector = Collector()
    for cls in runpy.run_path(str(path)).values():
        if isinstance(cls, type) and issubclass(cls, EnvExperiment) and cls is not EnvExperiment:
            cls((MagicMock(), None, collector, {}))
    for name, number in collector.numbers.items():
        assert number.step / number.scale > 0.99 * 10.0**-number.precision, name


def test_every_file_of_the_repository_is_an_experiment() -> None:
    """`artiq_master` examines each of them, and the dashboard lists what it finds."""
    for path in (ROOT / "repository").rglob("*.py"):
        classes = [value for value in runpy.run_path(str(path)).values() if isinstance(value, type)]
        own = [cls for cls in classes if issubclass(cls, EnvExperiment) and cls.__module__ == "<run_path>"]
        assert len(own) == 1, path
