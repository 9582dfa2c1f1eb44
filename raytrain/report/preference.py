"""Says in a sentence what people chose."""

from raytrain.report.formatting import format_count, format_interval, format_score
from raytrain.report.model import Preference


def preference_sentence(preference: Preference) -> str:
    """Says how often people chose the answer after training, and how sure that is."""
    decided = preference.after + preference.before
    ties = f"; {format_count(preference.ties, 'row')} without a preference" if preference.ties else ""
    if preference.share is None:
        return f"People had no preference on any of {format_count(preference.ties, 'row')}."
    share = f"{format_score(preference.share)}\u00a0%, 95\u00a0% interval " + format_interval(
        preference.low, preference.high, "percent"
    )
    sure = "" if preference.verdict != "noise" else ". That could be chance"
    return (
        f"People chose the answer after training on {preference.after} of {format_count(decided, 'row')} "
        f"({share}{ties}){sure}."
    )
