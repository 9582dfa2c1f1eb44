"""Kubernetes quantities; the cases are those of apimachinery's quantity_test.go."""

from decimal import Decimal

import pytest

from raytrain_core.errors import UsageError
from raytrain_core.quantities import parse_bytes, parse_quantity

LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"),
        ("0n", "0"),
        ("-0", "0"),
        ("1024", "1024"),
        ("24Gi", 24 << 30),
        ("1.5Gi", 3 << 29),
        ("500M", "500000000"),
        ("2k", "2000"),
        ("1Ki", "1024"),
        ("8Ei", LARGEST),
        ("7Ei", 7 << 60),
        ("1E", 10**18),
        ("1P", 10**15),
        ("100m", "0.1"),
        ("5u", "0.000005"),
        ("5n", "0.000000005"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e+6", "1000000"),
        ("1E-6", "0.000001"),
        ("-3.01e3", "-3010"),
        ("+5", "5"),
        ("+1.5Ki", "1536"),
        ("-10Mi", -(10 << 20)),
        (".5", "0.5"),
        ("5.", "5"),
        ("5.Gi", 5 << 30),
        (".001Ki", "1.024"),
        ("0.0001Mi", "104.8576"),
        # too small: rounded up to the smallest amount, away from zero
        ("1e-10", "1e-9"),
        ("0.01n", "1e-9"),
        ("-0.01n", "-1e-9"),
        ("1.0000000001", "1.000000001"),
        ("0.0000000001Ki", "0.000000103"),
        # too large: capped
        ("9223372036854775808", LARGEST),
        ("1e30", LARGEST),
        ("-1e30", -LARGEST),
        ("1e999999999999", LARGEST),
        ("100E", LARGEST),
    ],
)
def test_quantities(text, number):
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "+", "-", "Gi", "m", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-"),
        *(" 1", "1 ", "1 Gi", " 2M ", "1Gi2", "24gb", "1K", "1ki", "1g", "1Kib", "1e", "1e3Gi", "1e1.5", "1_000", "١"),
        *("24 gigabytes", "much", "1\n", "0x10", "inf", "nan", "--1", "1mm"),
    ],
)
def test_what_is_not_a_quantity(text):
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("8Gi", 8 << 30), ("1.5G", 1_500_000_000), ("512Ki", 512 << 10), ("100", 100), ("1e9", 10**9), ("1500m", 2)],
)
def test_memory_in_bytes(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "8 Gi", " 2M ", "8gb", "-1Gi", "0", "0Gi", "Gi"])
def test_what_is_not_an_amount_of_memory(text):
    with pytest.raises(UsageError, match="is not an amount of memory"):
        parse_bytes(text)
