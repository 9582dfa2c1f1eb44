import pytest

from raytrain_core.errors import UsageError
from raytrain_core.quantities import bytes_of


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("8Gi", 8 << 30), ("1.5G", 1_500_000_000), ("512Ki", 512 << 10), ("100", 100), (" 2M ", 2_000_000)],
)
def test_memory_as_kubernetes_writes_it(text, wanted):
    assert bytes_of(text) == wanted


@pytest.mark.parametrize("text", ["", "8 Gi", "8gb", "-1Gi", "0", "Gi", "1e9"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match="no amount of memory"):
        bytes_of(text)
