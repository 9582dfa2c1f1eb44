"""Amounts of memory as Kubernetes writes them."""

import re

from raytrain_core.errors import UsageError

_FACTORS = {"": 1} | {unit: 1000 ** (i + 1) for i, unit in enumerate(("k", "M", "G", "T"))}
_FACTORS |= {f"{unit}i": 1024 ** (i + 1) for i, unit in enumerate(("K", "M", "G", "T"))}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?")


def bytes_of(quantity: str) -> int:
    """`24Gi`, `1.5G` or a plain number as bytes; UsageError for anything else."""
    found = _QUANTITY.fullmatch(quantity.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"{quantity!r} is no amount of memory", hint="Write it as Kubernetes does, e.g. 8Gi or 500M.")
    return int(float(found[1]) * _FACTORS[found[2] or ""])
