"""Functions of float64 arrays whose result has the same bits on every machine.

IEEE 754 fixes the results of +, -, x, / and of rounding, but not those of exp, log, pow or cos, nor the order in which
a matrix product is summed. NumPy and its linear algebra choose by processor how they compute these, and the last bits
differ. So everything here is made of elementwise sums and products, or of whole numbers, whose sums are exact in any
order.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

# ln 2 in two parts, as in FreeBSD's msun (e_exp.c): the first times any whole number up to 2 ** 20 is exact.
_LN_2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
LN_10 = 2.302585092994046
_EXP = tuple(1 / math.factorial(n) for n in range(15))
_LOG = tuple(2 / (2 * n + 1) for n in range(1, 14))
_SINE = tuple((-1) ** (n // 2) / math.factorial(n) for n in range(1, 24, 2))
_SMALLEST, _LARGEST = -746.0, 710.0
"""exp is 0 below and infinite above."""
_BITS = 53
"""Of a whole number that float64 holds."""


def polynomial(coefficients: Sequence[float], x: Values) -> Values:
    """The polynomial with these coefficients, lowest first, at x (any shape), by Horner's rule."""
    y = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        y *= x
        y += coefficient
    return y


def exp(x: ArrayLike) -> Values:
    """e ** x of numbers (any shape), to within 2 units of the last place."""
    within = np.clip(np.asarray(x, dtype=np.float64), _SMALLEST, _LARGEST)
    whole = np.rint(within / _LN_2[0])
    rest = (within - whole * _LN_2[0]) - whole * _LN_2[1]
    with np.errstate(over="ignore", under="ignore"):
        made: Values = np.ldexp(polynomial(_EXP, rest), whole.astype(np.int32))
    return made


def log(x: ArrayLike) -> Values:
    """The natural logarithm of finite numbers above 0 (any shape), to within 2 units of the last place."""
    fraction, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    low = fraction < math.sqrt(0.5)
    fraction, exponent = np.where(low, 2 * fraction, fraction), exponent - low
    # ln f = 2 artanh((f - 1) / (f + 1)), as in msun's e_log.c.
    ratio = (fraction - 1) / (fraction + 1)
    square = ratio * ratio
    rest = ratio * (square * polynomial(_LOG, square)) + exponent * _LN_2[1]
    made: Values = exponent * _LN_2[0] + (2 * ratio + rest)
    return made


def power_of_ten(x: ArrayLike) -> Values:
    """10 ** x (any shape), to within 1e-15 of it for each unit of x."""
    return exp(np.asarray(x, dtype=np.float64) * LN_10)


def cosine(turns: ArrayLike) -> Values:
    """cos(2 pi x) of turns x (any shape), to within 1e-15."""
    x = np.asarray(turns, dtype=np.float64)
    angle = (0.25 - np.abs(x - np.rint(x))) * (2 * math.pi)  # within a quarter turn, with the sine of the result
    return angle * polynomial(_SINE, angle * angle)


def sine(turns: ArrayLike) -> Values:
    """sin(2 pi x) of turns x (any shape), to within 1e-15."""
    return cosine(np.asarray(turns, dtype=np.float64) - 0.25)


def product(left: Values, right: Values) -> Values:
    """left (n, k) x right (k, m) as float64 (n, m), of the values rounded to as many bits as are summed exactly.

    That is 53 less log2 k, halved: 22 bits of the largest value of either for k = 512.
    """
    bits = (_BITS - math.ceil(math.log2(max(1, left.shape[1])))) // 2
    (ours, up), (theirs, down) = (_whole(each, bits) for each in (left, right))
    made: Values = np.ldexp(ours @ theirs, -(up + down))
    return made


def _whole(values: Values, bits: int) -> tuple[Values, int]:
    """The values times 2 ** shift, rounded to whole numbers of up to so many bits, and that shift."""
    shift = bits - int(np.frexp(np.abs(values).max(initial=0.0))[1])
    made: Values = np.rint(np.ldexp(values, shift))
    return made, shift
