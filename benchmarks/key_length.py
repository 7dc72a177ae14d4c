"""Time of the key-length computations, and the lengths they find: python benchmarks/key_length.py

Prints one line a computation: seconds (best of three, in this process) and bits.
"""

import argparse
import time
from collections.abc import Callable
from fractions import Fraction

from diqkd_postproc.security import design, paper, renyi

GAMMA = Fraction(13, 256)


def best_time(function: Callable[[], int | None], repeats: int) -> tuple[float, int | None]:
    """Shortest time of `repeats` calls in seconds, and the answer."""
    times, answer = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - start)
    return min(times), answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=float, default=1.5e6, help="number of rounds (default 1.5e6)")
    parser.add_argument("--s", type=float, default=2.64, help="CHSH score of the design point (default 2.64)")
    parser.add_argument("--q", type=float, default=0.018, help="bit error rate there (default 0.018)")
    parser.add_argument("--repeats", type=int, default=3, help="calls a computation (default 3)")
    options = parser.parse_args()

    point = design.design_parameters(int(options.rounds), GAMMA, options.s, options.q)
    common = (point.num_rounds, GAMMA)
    rest = (point.syndrome_bits, point.soundness_error)
    computations: dict[str, Callable[[], int | None]] = {
        "paper": lambda: paper.key_length(*common, point.omega_threshold, *rest).bits,
        "minimum rounds (paper)": lambda: design.minimum_rounds(GAMMA, options.s, options.q),
        "renyi simple trevisan": lambda: renyi.key_length(*common, point.max_losses, *rest).bits,
        "renyi full trevisan": lambda: renyi.key_length(*common, point.max_losses, *rest, bound="full").bits,
        "renyi full toeplitz": lambda: (
            renyi.key_length(*common, point.max_losses, *rest, bound="full", extractor="toeplitz").bits
        ),
    }
    for name, function in computations.items():
        seconds, answer = best_time(function, options.repeats)
        print(f"{name:24} {seconds:8.3f} s  {answer}")


if __name__ == "__main__":
    main()
