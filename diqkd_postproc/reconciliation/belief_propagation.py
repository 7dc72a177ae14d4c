"""Kernels of the syndrome and of layered sum-product decoding on a quasi-cyclic code.

Sum-product decoding (SI equations 14-16) in layers: the checks of one base row share no variable, so they are
updated together from the freshest posteriors, which halves the iterations of the flooding schedule
(Hocevar, SiPS 2004). All inner loops run along the Z copies of one edge, contiguous but for one wrap-around,
and take slices: an index with an offset might be negative to the compiler, which alone keeps a loop scalar.
For the same reason exp and log are polynomials here, not calls to the C library.

A check-to-variable message is 2 atanh(product of tanh(x/2) over the other edges); prefix and suffix products
avoid the division by a tanh that may vanish. Single precision saturates at |x| = MAX_LLR, where the error
probability is 1e-7.
"""

from __future__ import annotations

import numba as nb
import numpy as np

f4 = np.float32
i4 = np.int32

MAX_LLR = f4(16.0)
_LOG2_E = f4(1.4426950408889634)
_LN_2 = f4(0.6931471805599453)
_ONE = f4(1.0)
_MAX_TANH = f4(1.0 - 2.0**-23)
_SQRT_HALF_BITS = i4(0x3F3504F3)
_MANTISSA_BITS = i4(23)
_EXP_OFFSET = f4(64.0)
_EXP_BIAS = i4(127 - 64)

# 2^f on [0, 1]: Chebyshev interpolation of degree 6, relative error 3e-9.
_E0, _E1, _E2, _E3 = (
    f4(1.0000000025868898),
    f4(0.6931469286930255),
    f4(0.24023050204501317),
    f4(0.05548042632569559),
)
_E4, _E5, _E6 = f4(0.009684580452528953), f4(0.0012387821476891468), f4(0.00021877504777769488)
# log(1 + u) / u on [sqrt(1/2) - 1, sqrt(2) - 1]: Chebyshev interpolation of degree 8, error 1e-8.
_L0, _L1, _L2, _L3 = (
    f4(0.9999999742629831),
    f4(-0.49999987027736786),
    f4(0.3333418345065885),
    f4(-0.25002153983783065),
)
_L4, _L5, _L6 = f4(0.1995697373133542), f4(-0.16560680556821525), f4(0.14949119992390678)
_L7, _L8 = f4(-0.1437745905404851), f4(0.08744038712617204)

# No reassociation: the float-to-int trick of exp needs its additions as written.
_FAST = {"contract", "nsz", "nnan", "ninf"}


@nb.njit("float32(float32)", cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def tanh_half(x):  # type: ignore[no-untyped-def]
    """tanh(x / 2), absolute error below 2e-6; x is clipped to +-MAX_LLR."""
    x = min(max(x, -MAX_LLR), MAX_LLR)
    y = x * _LOG2_E + _EXP_OFFSET
    k = i4(y)
    f = y - f4(k)
    s = _E6
    s = s * f + _E5
    s = s * f + _E4
    s = s * f + _E3
    s = s * f + _E2
    s = s * f + _E1
    s = s * f + _E0
    exponential = s * i4(i4(k + _EXP_BIAS) << _MANTISSA_BITS).view(np.float32)
    return (exponential - _ONE) / (exponential + _ONE)


@nb.njit("float32(float32)", cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def two_atanh(t):  # type: ignore[no-untyped-def]
    """2 atanh(t) = log((1 + t) / (1 - t)), for t clipped to what single precision resolves."""
    t = min(max(t, -_MAX_TANH), _MAX_TANH)
    bits = f4((_ONE + t) / (_ONE - t)).view(np.int32)
    exponent = i4(bits - _SQRT_HALF_BITS) >> _MANTISSA_BITS
    u = i4(bits - (exponent << _MANTISSA_BITS)).view(np.float32) - _ONE
    s = _L8
    s = s * u + _L7
    s = s * u + _L6
    s = s * u + _L5
    s = s * u + _L4
    s = s * u + _L3
    s = s * u + _L2
    s = s * u + _L1
    s = s * u + _L0
    return s * u + f4(exponent) * _LN_2


_sweep_of_edge = nb.njit(
    "void(float32[::1], int64, float32[::1], int64, float32[::1], float32[::1], float32[::1], int64,"
    " float32[::1], int64, int64)",
    cache=True,
    nogil=True,
    fastmath=_FAST,
    error_model="numpy",
)


@_sweep_of_edge
def _gather(  # type: ignore[no-untyped-def]
    posterior, p0, message, m0, extrinsic, tanh, prefix, b0, product, z0, count
):
    """Take one edge's old message out of its posteriors; record tanh and the product of the edges before."""
    old_posterior = posterior[p0 : p0 + count]
    old_message = message[m0 : m0 + count]
    new_extrinsic = extrinsic[b0 : b0 + count]
    new_tanh = tanh[b0 : b0 + count]
    new_prefix = prefix[b0 : b0 + count]
    running = product[z0 : z0 + count]
    for i in range(count):
        x = old_posterior[i] - old_message[i]
        t = tanh_half(x)
        new_extrinsic[i] = x
        new_tanh[i] = t
        before = running[i]
        new_prefix[i] = before
        running[i] = before * t


@_sweep_of_edge
def _scatter(  # type: ignore[no-untyped-def]
    posterior, p0, message, m0, extrinsic, tanh, prefix, b0, product, z0, count
):
    """Put one edge's new message into its posteriors; extend the product of the edges after."""
    new_posterior = posterior[p0 : p0 + count]
    new_message = message[m0 : m0 + count]
    old_extrinsic = extrinsic[b0 : b0 + count]
    old_tanh = tanh[b0 : b0 + count]
    old_prefix = prefix[b0 : b0 + count]
    running = product[z0 : z0 + count]
    for i in range(count):
        after = running[i]
        new = two_atanh(old_prefix[i] * after)
        running[i] = after * old_tanh[i]
        new_message[i] = new
        new_posterior[i] = old_extrinsic[i] + new


@nb.njit(
    "void(float32[::1], float32[::1], float32[::1], int64, int32[::1], int32[::1], int32[::1], int64,"
    " float32[:, ::1], float32[::1])",
    cache=True,
    nogil=True,
)
def iterate(  # type: ignore[no-untyped-def]
    posterior, message, sign, lifting, row_start, edge_column, edge_shift, num_checks, work, product
):
    """One sweep of layered sum-product over all rows.

    posterior: (columns Z,) log(P(0)/P(1)); message: (edges Z,) check-to-variable; sign: (m,) -1 where the
    syndrome bit is 1; work: (3, max row degree * Z) and product: (Z,) scratch. The last row may be partial.
    """
    extrinsic = work[0]
    tanh = work[1]
    prefix = work[2]
    for row in range(row_start.size - 1):
        first_check = row * lifting
        size = min(lifting, num_checks - first_check)
        for z in range(size):
            product[z] = sign[first_check + z]
        first = row_start[row]
        last = row_start[row + 1]
        for edge in range(first, last):
            p0 = edge_column[edge] * lifting
            shift = edge_shift[edge]
            m0 = edge * lifting
            b0 = (edge - first) * lifting
            head = min(lifting - shift, size)
            _gather(posterior, p0 + shift, message, m0, extrinsic, tanh, prefix, b0, product, 0, head)
            if size > head:
                m0, b0 = m0 + head, b0 + head
                _gather(posterior, p0, message, m0, extrinsic, tanh, prefix, b0, product, head, size - head)
        for z in range(size):
            product[z] = _ONE
        for edge in range(last - 1, first - 1, -1):
            p0 = edge_column[edge] * lifting
            shift = edge_shift[edge]
            m0 = edge * lifting
            b0 = (edge - first) * lifting
            head = min(lifting - shift, size)
            _scatter(posterior, p0 + shift, message, m0, extrinsic, tanh, prefix, b0, product, 0, head)
            if size > head:
                m0, b0 = m0 + head, b0 + head
                _scatter(posterior, p0, message, m0, extrinsic, tanh, prefix, b0, product, head, size - head)


@nb.njit("void(uint8[::1], int64, uint8[::1], int64, int64)", cache=True, nogil=True)
def _add_bits(total, t0, bits, b0, count):  # type: ignore[no-untyped-def]
    """Add `count` bits from `b0` to those from `t0`, modulo 2."""
    target = total[t0 : t0 + count]
    source = bits[b0 : b0 + count]
    for i in range(count):
        target[i] ^= source[i]


@nb.njit("void(uint8[::1], int64, int32[::1], int32[::1], int32[::1], uint8[::1])", cache=True, nogil=True)
def syndrome_of(word, lifting, row_start, edge_column, edge_shift, syndrome):  # type: ignore[no-untyped-def]
    """Parities of `word` ((columns Z,) uint8 bits) into `syndrome` ((m,) uint8)."""
    for row in range(row_start.size - 1):
        first_check = row * lifting
        size = min(lifting, syndrome.size - first_check)
        for z in range(size):
            syndrome[first_check + z] = 0
        for edge in range(row_start[row], row_start[row + 1]):
            p0 = edge_column[edge] * lifting
            shift = edge_shift[edge]
            head = min(lifting - shift, size)
            _add_bits(syndrome, first_check, word, p0 + shift, head)
            _add_bits(syndrome, first_check + head, word, p0, size - head)


@nb.njit("void(float32[::1], uint8[::1])", cache=True, nogil=True)
def hard_decision(posterior, word):  # type: ignore[no-untyped-def]
    """1 where the posterior says 1 (negative), else 0."""
    for i in range(posterior.size):
        word[i] = np.uint8(posterior[i] < f4(0.0))


@nb.njit("int64(uint8[::1], uint8[::1])", cache=True, nogil=True)
def hamming_distance(a, b):  # type: ignore[no-untyped-def]
    """Number of positions where two bit arrays differ."""
    distance = np.int64(0)
    for i in range(a.size):
        distance += np.int64(a[i] ^ b[i])
    return distance
