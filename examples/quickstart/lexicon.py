"""Spanish phrases of a noun and an adjective: the second probe.

Word order, gender and article have to be right.
"""

from random import Random

from examples.quickstart.names import Split, draw_pair

_NOUNS = {
    "house": "la casa",
    "table": "la mesa",
    "door": "la puerta",
    "street": "la calle",
    "flower": "la flor",
    "bottle": "la botella",
    "chair": "la silla",
    "window": "la ventana",
    "shirt": "la camisa",
    "box": "la caja",
    "lamp": "la lámpara",
    "car": "el coche",
    "book": "el libro",
    "dog": "el perro",
    "cat": "el gato",
    "tree": "el árbol",
    "hat": "el sombrero",
    "bird": "el pájaro",
    "garden": "el jardín",
    "ship": "el barco",
    "shoe": "el zapato",
    "horse": "el caballo",
    "clock": "el reloj",
    "glass": "el vaso",
    "coat": "el abrigo",
    "bag": "la bolsa",
    "boat": "la barca",
    "letter": "la carta",
    "cup": "la taza",
    "wall": "el muro",
    "key": "la llave",
    "knife": "el cuchillo",
    "plate": "el plato",
    "spoon": "la cuchara",
    "bed": "la cama",
    "mirror": "el espejo",
}
_ADJECTIVES = {
    "red": "rojo",
    "white": "blanco",
    "black": "negro",
    "yellow": "amarillo",
    "new": "nuevo",
    "expensive": "caro",
    "small": "pequeño",
    "beautiful": "bonito",
    "clean": "limpio",
    "old": "viejo",
    "cheap": "barato",
    "strange": "extraño",
    "long": "largo",
    "wonderful": "maravilloso",
}


# English determiner -> Spanish before a masculine and before a feminine noun.
_DETERMINERS = {"the": ("el", "la"), "a": ("un", "una"), "my": ("mi", "mi"), "this": ("este", "esta")}


def phrase(rng: Random, split: Split) -> tuple[str, str]:
    """Returns a phrase such as `the red house` and `la casa roja`.

    The pair (noun, adjective) belongs to `split`.
    """
    noun, adjective = draw_pair(rng, split, "phrase", sorted(_NOUNS), sorted(_ADJECTIVES))
    determiner = rng.choice(sorted(_DETERMINERS))
    article, word = _NOUNS[noun].split()
    feminine = article == "la"
    ending = _ADJECTIVES[adjective][:-1] + "a" if feminine else _ADJECTIVES[adjective]
    english = f"{'an' if determiner == 'a' and adjective[0] in 'aeiou' else determiner} {adjective} {noun}"
    return english, f"{_DETERMINERS[determiner][feminine]} {word} {ending}"
