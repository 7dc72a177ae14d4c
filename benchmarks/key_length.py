"""Time of the key-length computations, and the lengths they find: python -m benchmarks.key_length

Prints one line a computation: seconds (best of a few, in this process) and bits. `in balls` confirms the
length in ball arithmetic, where python-flint is installed.
"""

import argparse
import time
from collections.abc import Callable
from fractions import Fraction

from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security import ball_arithmetic
from diqkd_postproc.security.proofs import key_length_of

GAMMA = Fraction(13, 256)
CHOICES: tuple[dict[str, str], ...] = (
    {"proof": "paper"},
    {"proof": "counted"},
    {"proof": "renyi", "bound": "simple"},
    {"proof": "renyi", "bound": "simple", "extractor": "toeplitz"},
    {"proof": "renyi", "bound": "full"},
    {"proof": "renyi", "bound": "full", "extractor": "toeplitz"},
)


def best_time(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Shortest time of `repeats` calls in seconds, and the answer."""
    times, answer = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - start)
    return min(times), answer


def confirmed(parameters: ProtocolParameters) -> int:
    """Bits that ball arithmetic confirms."""
    return ball_arithmetic.confirm(parameters, key_length_of(parameters)).bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=float, default=1.5e6, help="number of rounds (default 1.5e6)")
    parser.add_argument("--s", type=float, default=2.64, help="CHSH score of the design point (default 2.64)")
    parser.add_argument("--q", type=float, default=0.018, help="bit error rate there (default 0.018)")
    parser.add_argument("--repeats", type=int, default=3, help="calls a computation (default 3)")
    options = parser.parse_args()

    num_rounds = int(options.rounds)
    for choice in CHOICES:
        point = DesignPoint(num_rounds, GAMMA, options.s, options.q, **choice)  # type: ignore[arg-type]
        parameters = point.parameters()
        computations: dict[str, Callable[[], object]] = {
            "key length": lambda p=parameters: key_length_of(p).bits,  # type: ignore[misc]
            "fewest rounds": point.minimum_rounds,
            "best gamma": point.best_gamma,
        }
        for name, function in computations.items():
            seconds, answer = best_time(function, options.repeats)
            print(f"{parameters.proof_label:22} {name:14} {seconds:8.3f} s  {answer}")
        if ball_arithmetic.is_available() and parameters.key_bits:
            seconds, answer = best_time(lambda p=parameters: confirmed(p), 1)  # type: ignore[misc]
            print(f"{parameters.proof_label:22} {'in balls':14} {seconds:8.3f} s  {answer}")


if __name__ == "__main__":
    main()
