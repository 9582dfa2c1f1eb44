import pytest

from raytrain.report.formatting import abbreviate, format_interval, format_score, join_names


@pytest.mark.parametrize(
    ("value", "scale", "sign", "text"),
    [
        (0.3334, "percent", False, "33.3"),
        (-0.02, "percent", True, "−2.0"),
        (0.02, "percent", True, "+2.0"),
        (-0.0001, "percent", True, "±0.0"),
        (-0.0001, "percent", False, "0.0"),
        (1.234, "raw", False, "1.23"),
        (None, "percent", True, "–"),
    ],
)
def test_scores(value, scale, sign, text):
    assert format_score(value, scale, sign=sign) == text


def test_intervals_counts_and_lists():
    assert format_interval(-0.1, 0.25, "percent", sign=True) == "[−10.0, +25.0]"
    assert format_interval(None, 0.25, "percent") == ""
    assert [abbreviate(n) for n in (950, 12_340, 4_560_000)] == ["950", "12.3 k", "4.56 M"]
    assert join_names(["a"]) == "a"
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert join_names([str(i) for i in range(20)], most=4) == "0, 1, 2 and 17 more"
