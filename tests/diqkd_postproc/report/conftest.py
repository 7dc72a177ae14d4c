"""Finished, aborted, unprocessed and characterisation runs, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.small_runs import PARAMETERS, Run, make_run, records, write_pair


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of both nodes that ended in a key."""
    yield make_run(tmp_path_factory.mktemp("report") / "finished", PARAMETERS, session=True)


@pytest.fixture(scope="session")
def other_secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """As `finished` in all that is public, with other settings, outcomes, pads, seeds and another key."""
    yield make_run(tmp_path_factory.mktemp("report") / "other", PARAMETERS, session=True, seed=77)


@pytest.fixture(scope="session")
def aborted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that lost too many test rounds."""
    directory = tmp_path_factory.mktemp("report") / "aborted"
    yield make_run(directory, PARAMETERS, session=True, winning=0.75)


@pytest.fixture(scope="session")
def acquired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run whose rounds are sealed and not yet post-processed."""
    yield make_run(tmp_path_factory.mktemp("report") / "acquired", PARAMETERS, session=False)


@pytest.fixture(scope="session")
def characterised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A characterisation run: half tests, no key, both records in one place."""
    update = {"key_bits": 0, "test_numerator": 1, "test_bits": 1}
    pair = records(PARAMETERS.model_copy(update=update))
    directory = tmp_path_factory.mktemp("report") / "characterised"
    write_pair(directory, pair, with_keys=False)
    yield Run(directory, *pair)
