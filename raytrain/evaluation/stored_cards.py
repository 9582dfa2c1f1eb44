"""All score cards of a run."""

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.results import ScoreCard, read_card
from raytrain_core.storage import Store
from raytrain_core.storage.commit import MANIFEST

_ORDER = {"before": 0, "after": 2}


def card_places(store: Store, layout: RunLayout) -> list[tuple[str, str]]:
    """Returns stage and task of the committed cards: before, then checkpoints, then after."""
    prefix = f"{layout.root}/scores/"
    places = (stat.key.removeprefix(prefix).split("/") for stat in store.list(prefix))
    found = [(place[0], place[1]) for place in places if len(place) == 3 and place[2] == MANIFEST]
    return sorted(found, key=lambda place: (_ORDER.get(place[0], 1), place))


def read_cards(store: Store, layout: RunLayout) -> list[ScoreCard]:
    """Returns the committed cards, in the order of `card_places`.

    Raises CorruptError for a card that is not what was committed.
    """
    cards = (read_card(store, layout, stage, task) for stage, task in card_places(store, layout))
    return [card for card in cards if card is not None]
