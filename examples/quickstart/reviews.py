"""Product reviews of one to five stars."""

from random import Random

from examples.quickstart.names import Split, draw_pair

PRODUCTS = (
    *("backpack", "blender", "camera", "chair", "coat", "desk", "drill", "fan", "guitar", "hairdryer", "headset"),
    *("heater", "jacket", "kettle", "keyboard", "knife", "ladder", "lamp", "mattress", "monitor", "mouse", "pan"),
    *(
        "phone",
        "pillow",
        "printer",
        "radio",
        "shelf",
        "sofa",
        "speaker",
        "suitcase",
        "tent",
        "toaster",
        "vacuum",
        "watch",
    ),
)
ASPECTS = (
    *(
        "build",
        "colour",
        "design",
        "finish",
        "handling",
        "material",
        "packaging",
        "price",
        "quality",
        "size",
        "surface",
    ),
    *("weight", "manual", "smell"),
)
_ADJECTIVES = (
    ("awful", "useless", "terrible", "dreadful"),
    ("weak", "poor", "disappointing", "annoying"),
    ("okay", "average", "acceptable", "ordinary"),
    ("good", "nice", "solid", "pleasant"),
    ("superb", "perfect", "excellent", "wonderful"),
)
_VERDICTS = (
    (
        "I want my money back.",
        "Never again!",
        "Do not buy this {product}.",
        "I threw it away.",
        "The worst {product} I have ever had.",
        "It broke on the first day.",
    ),
    (
        "I regret this purchase a little.",
        "I expected more.",
        "I would rather look for another {product}.",
        "It does its job, but badly.",
        "Not really worth the money.",
        "I am not happy with it.",
    ),
    (
        "Neither good nor bad.",
        "It does what it should, no more.",
        "You get what you pay for.",
        "An average {product}.",
        "Could be better, could be worse.",
        "I have mixed feelings about it.",
    ),
    (
        "I am happy with this {product}, despite small flaws.",
        "I would buy it again.",
        "Almost perfect.",
        "A good {product} with one or two weak points.",
        "Only the delivery was slow.",
        "Good value for the money.",
    ),
    (
        "I love it!",
        "The best {product} I have ever had.",
        "Everyone should have one.",
        "I can't say anything bad about it.",
        "I would give ten stars if I could.",
        "It exceeds all my hopes.",
    ),
)
_OPENERS = (
    "It came in a brown box.",
    "I bought it for my mother.",
    "We have used it for a month.",
    "The delivery took three days.",
    "My old {product} was ten years old.",
    "I found it on sale.",
    "It was a present.",
)
_OPINIONS = (
    "The {aspect} is {adjective}.",
    "I find the {aspect} {adjective}.",
    "For a {product}, the {aspect} is {adjective}.",
    "The {aspect} of this {product} is {adjective}.",
    "All in all, {adjective} {aspect}.",
)


def review(rng: Random, split: Split) -> tuple[str, str]:
    """Returns a review and its stars, "1" to "5"; every (product, aspect) in it belongs to `split`.

    A verdict decides the stars; an aspect may differ from it by one star. Without a verdict there
    are two aspects, which agree or differ by two stars, and their mean decides.
    """
    stars = rng.randint(1, 5)
    product, first = draw_pair(rng, split, "review", PRODUCTS, ASPECTS)
    second = draw_pair(rng, split, "review", [product], ASPECTS)[1]
    sentences = [rng.choice(_OPENERS)] if rng.random() < 0.35 else []
    if first == second or rng.random() < 0.6:
        aspects = sorted({first, second}) if rng.random() < 0.4 else [first]
        levels = [min(5, max(1, stars + rng.choice((-1, 0, 0, 1)))) for _ in aspects]
        sentences += [_opinion(rng, aspect, level) for aspect, level in zip(aspects, levels, strict=True)]
        sentences.append(rng.choice(_VERDICTS[stars - 1]))
    else:
        apart = rng.choice((-1, 0, 1)) if 1 < stars < 5 else 0
        sentences += [_opinion(rng, first, stars + apart), _opinion(rng, second, stars - apart)]
    return " ".join(sentences).replace("{product}", product), str(stars)


def _opinion(rng: Random, aspect: str, level: int) -> str:
    adjective = rng.choice(_ADJECTIVES[level - 1])
    return rng.choice(_OPINIONS).replace("{aspect}", aspect).replace("{adjective}", adjective)
