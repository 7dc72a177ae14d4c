"""The controller of the laser lock, without the network."""

import logging

import pytest

from diqkd_node.controllers.laser_lock import LaserLockController, LockFile, LockReadError, SimulatedLock
from diqkd_postproc.protocol.errors import ParameterError

NEVER_S = 3600.0


@pytest.fixture
def pin(tmp_path):
    path = tmp_path / "value"
    path.write_text("1\n")
    return path


def test_the_state_follows_the_pin(pin, caplog):
    controller = LaserLockController(LockFile(pin), NEVER_S)
    assert controller.is_locked() and controller.ping()
    with caplog.at_level(logging.INFO):
        for text in ("0", "0", "1", "0"):
            pin.write_text(text)
            controller.update()
    assert not controller.is_locked()
    status = controller.status()
    assert status["num_losses"] == 2 and status["locked"] is False and status["failure"] == ""
    assert [record.message for record in caplog.records] == [
        "the laser has lost its lock",
        "the laser is locked again",
        "the laser has lost its lock",
    ]
    controller.close()


def test_what_cannot_be_read_counts_as_not_locked(pin):
    controller = LaserLockController(LockFile(pin), NEVER_S)
    pin.write_text("maybe")
    controller.update()
    assert not controller.is_locked() and not controller.ping()
    assert "0 or 1 is expected" in str(controller.status()["failure"])
    pin.write_text("1")
    controller.update()
    assert controller.is_locked() and controller.ping()
    controller.close()


def test_a_missing_pin_is_an_error_at_the_start(tmp_path):
    with pytest.raises(LockReadError, match="cannot read"):
        LaserLockController(LockFile(tmp_path / "none"))


def test_only_a_simulated_lock_can_be_set(pin):
    simulated = LaserLockController(SimulatedLock(), NEVER_S)
    simulated.set_simulated_lock(False)
    assert not simulated.is_locked()
    real = LaserLockController(LockFile(pin), NEVER_S)
    with pytest.raises(ParameterError, match="--simulation"):
        real.set_simulated_lock(False)
    assert real.is_locked()
    simulated.close()
    real.close()
    real.close()
