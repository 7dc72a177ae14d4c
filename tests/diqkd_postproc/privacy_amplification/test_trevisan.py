"""Trevisan's extractor against a plain definition and against randextract, on every instruction set."""

import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import randextract
from randextract.trevisan.block_design import BlockDesign
from randextract.trevisan.finite_field_polynomial_design import FiniteFieldPolynomialDesign

from diqkd_postproc.authentication import universal_hash
from diqkd_postproc.fields.binary_field import BinaryField, field_polynomial_tail
from diqkd_postproc.fields.carryless import instruction_sets
from diqkd_postproc.privacy_amplification import TrevisanExtractor, TrevisanParameters, trevisan_parameters
from diqkd_postproc.protocol.errors import ParameterError

PUBLISHED_ONE_BIT_ERROR = (1e-10 - 2 * 4.9935e-11) / 95_884
FASTEST = instruction_sets()[0]


def random_bits(generator: np.random.Generator, length: int) -> np.ndarray:
    return generator.integers(0, 2, length, dtype=np.uint8)


def plain_extract(source: np.ndarray, seed: np.ndarray, num_outputs: int, degree: int) -> np.ndarray:
    """The extractor, written down from its definition, bit by bit; shares no code with the package but the
    exponents of the field polynomial (which are tested against galois)."""
    tail = field_polynomial_tail(degree)
    size = 2 * degree
    while any(size % divisor == 0 for divisor in range(2, size)):
        size += 1
    num_blocks = 2
    if num_outputs > size:
        ratio = math.log((num_outputs - math.e) / (size - math.e)) / math.log(math.e / (math.e - 1))
        num_blocks = max(2, math.ceil(ratio) + 1)
    assert len(seed) == num_blocks * size * size
    counts: list[int] = []
    for block in range(num_blocks - 1):
        wanted = sum((1 - 1 / math.e) ** i * (num_outputs / math.e - 1) for i in range(block + 1))
        counts.append(math.ceil(wanted) - sum(counts))
    counts.append(num_outputs - sum(counts))
    text = "".join(str(bit) for bit in source)
    text += "0" * (-len(text) % degree)
    coefficients = [int(text[i : i + degree], 2) for i in range(0, len(text), degree)]

    def times(left: int, right: int) -> int:
        product = 0
        for position in reversed(range(degree)):
            product <<= 1
            if product >> degree:
                product ^= (1 << degree) | sum(1 << exponent for exponent in tail)
            if right >> position & 1:
                product ^= left
        return product

    output = []
    for block, count in enumerate(counts):
        for number in range(count):
            picked = ""
            for point in range(2 * degree):
                value, power, rest = 0, 1, number
                while rest:
                    value += rest % size * power
                    rest //= size
                    power *= point
                picked += str(seed[block * size * size + value % size * size + point])
            evaluation, mask = int(picked[:degree], 2), int(picked[degree:], 2)
            total = 0
            for coefficient in coefficients:
                total = times(total, evaluation) ^ coefficient
            output.append((total & mask).bit_count() & 1)
    return np.array(output, dtype=np.uint8)


def test_published_parameters() -> None:
    parameters = trevisan_parameters(1_500_000, 95_884, PUBLISHED_ONE_BIT_ERROR)
    assert (parameters.t, parameters.t_plus, parameters.blocks) == (284, 293, 14)
    assert parameters.seed_bits == 1_201_886
    assert parameters.num_coefficients == 10_564
    assert TrevisanExtractor(1_500_000, 95_884, PUBLISHED_ONE_BIT_ERROR).seed_bits == 1_201_886


@pytest.mark.parametrize("instance", range(240))
def test_small_instances_against_the_definition(instance: int) -> None:
    generator = np.random.default_rng(1000 + instance)
    degree = int(generator.integers(3, 24 if instance % 4 else 60))
    num_inputs = int(generator.integers(2, 40 * degree))
    num_outputs = int(generator.integers(1, min(num_inputs, 120) + 1))
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(num_inputs, num_outputs, degree))
    source = random_bits(generator, num_inputs)
    seed = random_bits(generator, extractor.seed_bits)
    expected = plain_extract(source, seed, num_outputs, degree)
    for instruction_set in {FASTEST, "portable"}:
        bits = extractor.extract(source, seed, instruction_set=instruction_set, num_threads=1)
        np.testing.assert_array_equal(bits, expected)


# Word boundaries, one to four words, and tails of one and of two words (146, 228: exponents 71 and 113).
@pytest.mark.parametrize("degree", [63, 64, 65, 127, 128, 129, 142, 146, 192, 193, 228, 256])
def test_every_kernel_against_the_definition(degree: int) -> None:
    generator = np.random.default_rng(degree)
    for num_inputs, num_outputs in ((37 * degree - 5, 9), (degree, 3), (300 * degree + 1, 2)):
        extractor = TrevisanExtractor.from_parameters(TrevisanParameters(num_inputs, num_outputs, degree))
        source = random_bits(generator, num_inputs)
        seed = random_bits(generator, extractor.seed_bits)
        expected = plain_extract(source, seed, num_outputs, degree)
        for instruction_set in {FASTEST, "portable"}:
            np.testing.assert_array_equal(
                extractor.extract(source, seed, instruction_set=instruction_set), expected
            )


def test_published_size_against_horner_s_rule_on_sampled_bits() -> None:
    """Bits of several blocks of the design, of constant and of linear polynomials, at n = 1.5e6."""
    extractor = TrevisanExtractor(1_500_000, 95_884, PUBLISHED_ONE_BIT_ERROR)
    generator = np.random.default_rng(2022)
    source, seed = random_bits(generator, 1_500_000), random_bits(generator, extractor.seed_bits)
    bits = extractor.extract(source, seed)
    assert abs(int(bits.sum()) - 47_942) < 5.2 * math.sqrt(95_884) / 2  # false alarm below 1e-6
    field = BinaryField(142)
    text = "".join(map(str, source)) + "0" * (-1_500_000 % 142)
    coefficients = [int(text[i : i + 142], 2) for i in range(0, len(text), 142)]
    design = extractor.parameters.weak_design
    for index in [*(design.block_starts[:-1:3] + 3).tolist(), 35_000, 95_883]:
        picked = "".join(map(str, seed[design.members(index, 284)]))
        point, mask, total = int(picked[:142], 2), int(picked[142:], 2), 0
        for coefficient in coefficients:
            total = field.multiply(total, point) ^ coefficient
        assert bits[index] == (total & mask).bit_count() & 1


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_each_instruction_set_gives_the_same_bits(instruction_set: str) -> None:
    generator = np.random.default_rng(5)
    extractor = TrevisanExtractor(60_000, 2500, 1e-17)
    assert extractor.parameters.field_degree == 131
    source = random_bits(generator, 60_000)
    seed = random_bits(generator, extractor.seed_bits)
    bits = extractor.extract(source, seed, instruction_set=instruction_set)
    np.testing.assert_array_equal(bits, extractor.extract(source, seed, num_threads=1))


@pytest.mark.parametrize("point", ["zero", "one"])
def test_evaluation_points_zero_and_one(point: str) -> None:
    degree, num_inputs, num_outputs = 10, 205, 4
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(num_inputs, num_outputs, degree))
    size = extractor.parameters.t_plus
    seed = np.zeros((extractor.parameters.blocks, size, size), dtype=np.uint8)
    seed[:, :, degree : 2 * degree] = 1
    seed[:, :, degree - 1] = point == "one"
    source = random_bits(np.random.default_rng(8), num_inputs)
    bits = extractor.extract(source, seed.reshape(-1))
    # P(0) is the last piece, P(1) the sum of all; the mask is all ones.
    expected = source[200:].sum() % 2 if point == "zero" else source.sum() % 2
    assert bits.tolist() == [expected] * num_outputs


@pytest.mark.parametrize(
    ("degree", "num_inputs", "num_outputs"), [(4, 60, 20), (7, 100, 40), (12, 200, 30), (20, 150, 25)]
)
def test_equal_to_randextract(
    degree: int, num_inputs: int, num_outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, once randextract's basic design has the tighter overlap bound e of Ma and Tan.

    Its TrevisanExtractor hands the block design an argument that the design does not take (release 0.2.2);
    the subclass drops it.
    """

    class LenientBlockDesign(BlockDesign):
        def __init__(self, basic_weak_design_type: str, **arguments: int) -> None:
            super().__init__(**arguments)

    monkeypatch.setattr(FiniteFieldPolynomialDesign, "relative_overlap", classmethod(lambda cls: math.e))
    monkeypatch.setitem(randextract.WeakDesign.subclasses, "block", LenientBlockDesign)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = randextract.TrevisanExtractor(
            input_length=num_inputs,
            output_length=num_outputs,
            weak_design_type="block",
            one_bit_extractor_type="polynomial",
            one_bit_extractor_seed_length=2 * degree,
        )
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(num_inputs, num_outputs, degree))
    assert extractor.seed_bits == oracle.seed_length
    generator = np.random.default_rng(degree)
    for _ in range(2):
        source = random_bits(generator, num_inputs)
        seed = random_bits(generator, extractor.seed_bits)
        expected = np.asarray(oracle.extract(source, seed)).astype(np.uint8)
        np.testing.assert_array_equal(extractor.extract(source, seed), expected)


def test_first_block_equal_to_randextract_as_it_is() -> None:
    """The first basic design is randextract's finite-field design on the first t+^2 seed bits."""
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(300, 150, 15))
    size = extractor.parameters.t_plus
    num_outputs = int(extractor.parameters.weak_design.block_starts[1])
    assert num_outputs > size, "polynomials of degree 1 are wanted here"
    oracle = randextract.TrevisanExtractor(
        input_length=300,
        output_length=num_outputs,
        weak_design_type="finite_field",
        one_bit_extractor_type="polynomial",
        one_bit_extractor_seed_length=30,
    )
    generator = np.random.default_rng(15)
    source, seed = random_bits(generator, 300), random_bits(generator, extractor.seed_bits)
    expected = np.asarray(oracle.extract(source, seed[: size * size])).astype(np.uint8)
    np.testing.assert_array_equal(extractor.extract(source, seed)[:num_outputs], expected)


def test_one_bit_extractor_equal_to_randextract_at_the_published_degree() -> None:
    """Output bit 0 of a design sees the first 284 bits at a = 0 ... 283 of the constant polynomial 0."""
    num_inputs = 1000
    oracle = randextract.PolynomialOneBitExtractor(input_length=num_inputs, seed_length=284)
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(num_inputs, 300, 142))
    generator = np.random.default_rng(142)
    source = random_bits(generator, num_inputs)
    seed = random_bits(generator, extractor.seed_bits)
    bits = extractor.extract(source, seed)
    for index in (0, 1, 107, 299):
        picked = seed[extractor.parameters.weak_design.members(index, 284)]
        assert bits[index] == int(oracle.extract(source, picked))


def test_progress_and_threads() -> None:
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(5000, 4000, 20))
    generator = np.random.default_rng(3)
    source, seed = random_bits(generator, 5000), random_bits(generator, extractor.seed_bits)
    calls: list[tuple[int, int]] = []
    bits = extractor.extract(source, seed, lambda done, total: calls.append((done, total)), num_threads=3)
    assert calls[-1] == (4000, 4000)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    np.testing.assert_array_equal(bits, extractor.extract(source[::1], seed, num_threads=1))
    strided = np.repeat(seed, 2)[::2]
    np.testing.assert_array_equal(bits, extractor.extract(source, strided))


def test_exception_in_progress_stops_the_work() -> None:
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(5000, 4000, 20))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extractor.extract(np.zeros(5000, np.uint8), np.zeros(extractor.seed_bits, np.uint8), interrupt)


@pytest.mark.parametrize("variable", ["NUMBA_DISABLE_JIT=1", "NUMBA_CPU_NAME=generic"])
def test_same_bits_where_the_instructions_are_not_to_be_used(variable: str) -> None:
    """In a fresh process: uncompiled, and compiled for a plain processor."""
    program = """if True:
        import sys
        import numpy as np
        from diqkd_postproc.authentication import universal_hash
        from diqkd_postproc.privacy_amplification import TrevisanExtractor, TrevisanParameters
        from diqkd_postproc.fields.carryless import instruction_sets
        assert instruction_sets() == ("portable",)
        extractor = TrevisanExtractor.from_parameters(TrevisanParameters(90, 3, 65))
        generator = np.random.default_rng(2)
        source = generator.integers(0, 2, 90, dtype=np.uint8)
        seed = generator.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
        bits = extractor.extract(source, seed).tobytes()
        print((bits + universal_hash(bytes(range(32)), bytes(range(50)))).hex())
    """
    name, _, value = variable.partition("=")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(90, 3, 65))
    generator = np.random.default_rng(2)
    source, seed = random_bits(generator, 90), random_bits(generator, extractor.seed_bits)
    bits = extractor.extract(source, seed).tobytes()
    assert run.stdout.strip() == (bits + universal_hash(bytes(range(32)), bytes(range(50)))).hex()


def test_wrong_input_is_refused_without_showing_it() -> None:
    extractor = TrevisanExtractor.from_parameters(TrevisanParameters(100, 10, 8))
    source, seed = np.ones(100, np.uint8), np.ones(extractor.seed_bits, np.uint8)
    for bad_source, bad_seed in (
        (source[:99], seed),
        (source, seed[1:]),
        (source.astype(np.int64), seed),
        (source, seed.astype(bool)),
        (source * 7, seed),
        (bytes(100), seed),
    ):
        with pytest.raises(ParameterError) as caught:
            extractor.extract(bad_source, bad_seed)  # type: ignore[arg-type]
        assert "1, 1" not in str(caught.value) and "1 1" not in str(caught.value)
    with pytest.raises(ParameterError, match="instruction_set"):
        extractor.extract(source, seed, instruction_set="sse9")


@pytest.mark.parametrize(
    "arguments",
    [
        (100, 0, 1e-3),
        (100, 101, 1e-3),
        (100, 10, 0.0),
        (100, 10, 1.0),
        (100, 10, math.nan),
        (10**6, 10, 1e-60),
    ],
)
def test_sizes_out_of_range(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(ParameterError):
        TrevisanExtractor(*arguments)
