"""Device `ion_loader`: brings a new ion into the simulated trap."""

from typing import Any


class IonLoader:
    """Loader of a node's trap; `apparatus` names the device that holds the ion."""

    def __init__(self, device_mgr: Any, apparatus: str = "apparatus") -> None:
        self._apparatus = device_mgr.get(apparatus)

    def load(self) -> None:
        """See to it that there is one ion; returns when it is trapped and cold. Several are ejected first;
        with one in the trap this does nothing."""
        self._apparatus.reload_ion()

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held open."""
