"""Controller `aqctl_quantis` of the node's random number generator, with continuous health tests.

One process owns the generator, tests every byte of it (NIST SP 800-90B, see `diqkd_postproc.records`) and
gives each byte out once. After a failed test it gives out none until an operator restarts it.
The bytes become private settings: they are never logged, and the server listens on this computer only.
"""

import logging
import sys
from collections.abc import Sequence

from diqkd_node.controllers.server import argument_parser, leaves_this_computer, serve
from diqkd_postproc.protocol.errors import ParameterError, QrngFailure
from diqkd_postproc.records.health_tests import DEFAULT_MIN_ENTROPY, HealthTested
from diqkd_postproc.records.qrng import DEVICE, ByteSource, QuantisByteSource

logger = logging.getLogger(__name__)

NAME = "quantis"
DEFAULT_PORT = 3281
# The longest read takes half a minute at the generator's 4 Mbit/s.
MAX_READ_BYTES = 1 << 24


class QuantisController:
    """The RPC interface; also a `ByteSource`, so that a run can read from it."""

    def __init__(self, source: ByteSource, min_entropy: float = DEFAULT_MIN_ENTROPY) -> None:
        """Run the start-up tests; QrngFailure if they fail. `min_entropy`: claimed, in bits a byte."""
        self._raw = source
        self._min_entropy = min_entropy
        self._failure = ""
        self._bytes_read = 0
        self._source = HealthTested(source, min_entropy)

    def read(self, num_bytes: int) -> bytes:
        """`num_bytes` fresh bytes that passed the tests; QrngFailure if they did not."""
        if not isinstance(num_bytes, int) or not 0 <= num_bytes <= MAX_READ_BYTES:
            raise ParameterError(f"num_bytes={num_bytes!r} is not a number from 0 to {MAX_READ_BYTES}")
        try:
            data = self._source.read(num_bytes)
        except QrngFailure as error:
            if not self._failure:
                logger.error("%s", error)
            self._failure = str(error)
            raise
        self._bytes_read += num_bytes
        return data

    def status(self) -> dict[str, bool | str | int | float]:
        """Public facts: `healthy`, the `failure` if there was one, `bytes_read`, `min_entropy` a byte."""
        return {
            "healthy": not self._failure,
            "failure": self._failure,
            "bytes_read": self._bytes_read,
            "min_entropy": self._min_entropy,
        }

    def ping(self) -> bool:
        """Whether the generator answers. True after a failed test as well: the controller manager restarts
        what fails a ping, and a restart would forget the failure."""
        return bool(self._failure) or self._raw.ping()

    def close(self) -> None:
        """Release the generator."""
        self._source.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `aqctl_quantis`."""
    parser = argument_parser("ARTIQ controller for a Quantis random number generator.", DEFAULT_PORT)
    parser.add_argument("--device", default=DEVICE, help="character device of the generator")
    parser.add_argument(
        "--min-entropy",
        type=float,
        default=DEFAULT_MIN_ENTROPY,
        help="claimed for the generator, bits a byte; sets the cutoffs of the health tests",
    )
    options = parser.parse_args(arguments)
    if leaves_this_computer(options.bind):
        parser.error("--bind: random bytes must not leave this computer; only loopback addresses are allowed")

    def make_device() -> QuantisController:
        source: ByteSource
        if options.simulation:
            from diqkd_node.controllers.simulated_quantis import SimulatedQuantis

            source = SimulatedQuantis()
        else:
            source = QuantisByteSource(options.device)
        return QuantisController(source, options.min_entropy)

    return serve(NAME, make_device, options)


if __name__ == "__main__":
    sys.exit(main())
