"""The settings of a preparation that all of its tasks share."""

from dataclasses import dataclass

from data_prep.text.tokenizer import Tokenizer
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class PrepLimits:
    """Longest source and target in tokens, EOS included; longer ones are cut and counted."""

    max_input_tokens: int
    max_target_tokens: int


@dataclass(frozen=True, slots=True)
class PrepSettings:
    """Store, tokenizer, limits and seed of a preparation.

    With `verify`, sources are read again and parts are written again.
    """

    store: Store
    tokenizer: Tokenizer
    limits: PrepLimits
    seed: int
    verify: bool
