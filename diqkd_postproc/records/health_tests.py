"""Continuous health tests of a random byte source: NIST SP 800-90B, section 4.4.

They catch a generator that breaks (stuck, strongly biased), not a clever adversary. The repetition count
test (4.4.1) fails on too many equal bytes in a row, the adaptive proportion test (4.4.2) when the first
byte of a window of 512 recurs too often in it. Both cutoffs follow from a false-alarm probability of 2^-30
and the min-entropy a byte that is claimed for the source. `HealthTested` also runs both over 4096 bytes at
start-up and discards those (4.3, item 4). After one failure no byte is given out any more.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, QrngFailure
from diqkd_postproc.records.qrng import ByteSource

FALSE_ALARM_LOG2 = -30
WINDOW = 512
START_UP_BYTES = 4096
# The Quantis claims nearly 8 bits. At 7, a source with full entropy raises a false alarm in less than one
# of 1e9 bytes read (repetition count 2^-40 a byte), and one that lost a bit of entropy is still noticed.
DEFAULT_MIN_ENTROPY = 7.0


def repetition_cutoff(min_entropy: float, false_alarm_log2: float = FALSE_ALARM_LOG2) -> int:
    """C = 1 + ceil(-log2(alpha) / H): equal samples in a row that fail (SP 800-90B 4.4.1).

    min_entropy: H, bits a byte. false_alarm_log2: log2 of alpha, the probability a byte that a sound source
    fails.
    """
    return 1 + math.ceil(-false_alarm_log2 / min_entropy)


def proportion_cutoff(
    min_entropy: float, window: int = WINDOW, false_alarm_log2: float = FALSE_ALARM_LOG2
) -> int:
    """C = 1 + critbinom(W, 2^-H, 1 - alpha): occurrences in a window that fail (SP 800-90B 4.4.2).

    window: W, bytes. Arguments otherwise as `repetition_cutoff`.
    """
    # Imported on first use: it takes half a second, and most commands draw no random bits.
    from scipy.stats import binom

    return 1 + int(binom.isf(2.0**false_alarm_log2, window, 2.0**-min_entropy))


class RepetitionCountTest:
    """Fails when `cutoff` equal bytes follow each other, also across calls.

    cutoff: as `repetition_cutoff` gives it. A run that began in an earlier call goes on in the next.
    """

    def __init__(self, cutoff: int) -> None:
        self.cutoff = cutoff
        self._last = -1
        self._run = 0

    def passes(self, samples: npt.NDArray[np.uint8]) -> bool:
        """Take in (n,) uint8 samples; False if a run reached the cutoff."""
        if samples.size == 0:
            return True
        changes = np.flatnonzero(np.diff(samples)) + 1
        starts = np.concatenate(([0], changes))
        runs = np.diff(np.concatenate((starts, [samples.size])))
        if int(samples[0]) == self._last:
            runs[0] += self._run
        self._last, self._run = int(samples[-1]), int(runs[-1])
        return bool(runs.max() < self.cutoff)


class AdaptiveProportionTest:
    """Fails when the first byte of a window occurs `cutoff` times in that window.

    cutoff, window: as `proportion_cutoff` takes and gives them. Windows follow each other without overlap,
    across calls.
    """

    def __init__(self, cutoff: int, window: int = WINDOW) -> None:
        self.cutoff, self.window = cutoff, window
        self._reference = -1
        self._seen = 0
        self._count = 0

    def passes(self, samples: npt.NDArray[np.uint8]) -> bool:
        """Take in (n,) uint8 samples; False if a window reached the cutoff, even before its end."""
        worst = 0
        if self._seen:
            head, samples = np.split(samples, [self.window - self._seen])
            self._count += int(np.count_nonzero(head == self._reference))
            self._seen = (self._seen + head.size) % self.window
            worst = self._count
        num_whole = samples.size // self.window
        whole, tail = np.split(samples, [num_whole * self.window])
        if num_whole:
            windows = whole.reshape(num_whole, self.window)
            worst = max(worst, int(np.count_nonzero(windows == windows[:, :1], axis=1).max()))
        if tail.size:
            self._reference, self._seen = int(tail[0]), tail.size
            self._count = int(np.count_nonzero(tail == self._reference))
            worst = max(worst, self._count)
        return worst < self.cutoff


class HealthTested:
    """A byte source behind its health tests; itself a `ByteSource`."""

    def __init__(self, source: ByteSource, min_entropy: float = DEFAULT_MIN_ENTROPY) -> None:
        """Run the start-up tests on 4096 bytes, which are discarded; QrngFailure if they fail.

        min_entropy: claimed for the source, bits a byte, in (0, 8].
        """
        if not 0 < min_entropy <= 8:
            raise ParameterError(f"min_entropy={min_entropy} a byte is outside (0, 8]")
        self._source = source
        self._failed = ""
        self._tests: dict[str, RepetitionCountTest | AdaptiveProportionTest] = {
            "repetition count": RepetitionCountTest(repetition_cutoff(min_entropy)),
            "adaptive proportion": AdaptiveProportionTest(proportion_cutoff(min_entropy)),
        }
        self.read(START_UP_BYTES)

    def read(self, num_bytes: int) -> bytes:
        """`num_bytes` tested bytes; on a failure none of them is given out, and none ever after.

        Raises QrngFailure with the names of the tests that failed, and whatever the source raises.
        """
        if not self._failed:
            data = self._source.read(num_bytes)
            samples = np.frombuffer(data, dtype=np.uint8)
            self._failed = " and ".join(
                name for name, test in self._tests.items() if not test.passes(samples)
            )
        if self._failed:
            raise QrngFailure(
                f"the random source failed the {self._failed} test (SP 800-90B, false alarm 2^-30); "
                "do not use it before it has been examined"
            )
        return data

    def ping(self) -> bool:
        """Whether the source answers and no test has failed."""
        return not self._failed and self._source.ping()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def __repr__(self) -> str:
        return f"HealthTested({self._source!r})"
