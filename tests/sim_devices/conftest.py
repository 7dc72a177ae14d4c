"""A laboratory in a thread of the test process, on a free loopback port."""

import threading
from collections.abc import Callable, Iterator

import pytest

from sim_devices.laboratory import LaboratoryConfiguration, LaboratoryServer


@pytest.fixture
def laboratory() -> Iterator[Callable[[LaboratoryConfiguration], str]]:
    """Starts a laboratory of a configuration; gives its address."""
    started: list[tuple[LaboratoryServer, threading.Thread]] = []

    def start(configuration: LaboratoryConfiguration) -> str:
        server = LaboratoryServer(configuration)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        started.append((server, thread))
        return f"{server.address[0]}:{server.address[1]}"

    yield start
    for server, thread in started:
        server.stop()
        thread.join(300.0)
