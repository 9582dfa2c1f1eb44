"""Kubernetes quantities: `24Gi`, `500m`, `1.5G`, `2e9`.

The rules are those of `k8s.io/apimachinery/pkg/api/resource/quantity.go`: a signed decimal number
with a binary suffix (Ki ... Ei), a decimal suffix (n, u, m, k, M ... E) or a decimal exponent. No
spaces. Amounts smaller than 1n are rounded up (away from zero), amounts beyond 2^63 - 1 are capped.
"""

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal

from raytrain_core.errors import UsageError

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE]?)|[eE](?P<exponent>[+-]?\d+))", re.ASCII
)
_FACTORS = (
    {"": Decimal(1)}
    | {suffix: Decimal(1000) ** -power for power, suffix in enumerate("mun", 1)}
    | {suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)}
    | {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)}
)
_MAX = Decimal(2**63 - 1)
_NANO = Decimal("1e-9")
_EXACT = Context(prec=1000)
_MAX_EXPONENT = 100
"""Of a decimal exponent: anything beyond is capped or rounded up anyway."""


def parse_quantity(text: str) -> Decimal:
    """Returns the number that a quantity stands for; ValueError if the text is not a quantity."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity such as 24Gi or 500m")
    number = Decimal(match["number"])
    if match["exponent"] is None:
        amount = _EXACT.multiply(number, _FACTORS[match["suffix"]])
    else:
        exponent = max(-_MAX_EXPONENT, min(int(match["exponent"]), _MAX_EXPONENT))
        amount = _EXACT.scaleb(number, exponent)
    if abs(amount) >= _MAX:
        return _MAX.copy_sign(amount)
    return amount.quantize(_NANO, ROUND_UP, _EXACT)


def parse_bytes(text: str) -> int:
    """Returns an amount of memory in bytes, rounded up; UsageError if it is not positive."""
    try:
        amount = parse_quantity(text)
    except ValueError:
        amount = Decimal(0)
    if amount <= 0:
        raise UsageError(f"{text!r} is not an amount of memory", hint="Write it as Kubernetes does, e.g. 8Gi or 500M.")
    return int(amount.to_integral_value(ROUND_CEILING))
