"""Small Java functions and their Python translations."""

from collections.abc import Callable
from random import Random

from examples.quickstart.names import Split, draw_pair

VERBS = ("add", "apply", "build", "check", "compare", "count", "fetch", "find", "get", "load", "make", "read", "set")
NOUNS = (
    *(
        "Account",
        "Age",
        "Amount",
        "Balance",
        "Code",
        "Cost",
        "Discount",
        "Distance",
        "Group",
        "Height",
        "Index",
        "Item",
    ),
    *("Level", "Limit", "Name", "Order", "Page", "Price", "Rank", "Score", "Speed", "State", "Tax", "Value"),
)
# First and second parameters come from disjoint lists, as the small model cannot tell two symbols
# of one kind apart.
FIRST_NUMBERS = ("a", "amount", "count", "length", "m", "price", "size", "total", "x")
SECOND_NUMBERS = ("b", "factor", "k", "limit", "n", "rate", "step", "width", "y")
TEXTS = ("label", "line", "s", "text", "title", "word")
LISTS = ("items", "numbers", "prices", "scores", "values")
FLAGS = ("active", "done", "open", "ready", "valid")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_BOTH = (("&&", "and"), ("||", "or"))

# The Java return type, the typed Java parameters, and the lines of the Java and Python bodies.
_Parts = tuple[str, str, list[str], list[str]]


def _digit(rng: Random) -> int:
    return rng.randint(2, 9)


def _arithmetic(rng: Random) -> _Parts:
    p, q, op = rng.choice(FIRST_NUMBERS), rng.choice(SECOND_NUMBERS), rng.choice("+-*")
    return "int", f"int {p}, int {q}", [f"return {p} {op} {q};"], [f"return {p} {op} {q}"]


def _constant(rng: Random) -> _Parts:
    p, op, c = rng.choice(FIRST_NUMBERS + SECOND_NUMBERS), rng.choice("+-*%"), _digit(rng)
    return "int", f"int {p}", [f"return {p} {op} {c};"], [f"return {p} {op} {c}"]


def _comparison(rng: Random) -> _Parts:
    p, q, op = rng.choice(FIRST_NUMBERS), rng.choice(SECOND_NUMBERS), rng.choice(_COMPARISONS)
    return "boolean", f"int {p}, int {q}", [f"return {p} {op} {q};"], [f"return {p} {op} {q}"]


def _two_conditions(rng: Random) -> _Parts:
    p, q, (java, python) = rng.choice(FIRST_NUMBERS), rng.choice(SECOND_NUMBERS), rng.choice(_BOTH)
    one, two, c = rng.choice("<>"), rng.choice(("==", "!=")), _digit(rng)
    left, right = f"{p} {one} {q}", f"{q} {two} {c}"
    return "boolean", f"int {p}, int {q}", [f"return {left} {java} {right};"], [f"return {left} {python} {right}"]


def _early_return(rng: Random) -> _Parts:
    p, q, op, c = rng.choice(FIRST_NUMBERS), rng.choice(SECOND_NUMBERS), rng.choice("<>"), _digit(rng)
    java = [f"if ({p} {op} {c}) {{", f"    return {q};", "}", f"return {p};"]
    return "int", f"int {p}, int {q}", java, [f"if {p} {op} {c}:", f"    return {q}", f"return {p}"]


def _bigger(rng: Random) -> _Parts:
    p, q, name = rng.choice(FIRST_NUMBERS), rng.choice(SECOND_NUMBERS), rng.choice(("max", "min"))
    return "int", f"int {p}, int {q}", [f"return Math.{name}({p}, {q});"], [f"return {name}({p}, {q})"]


def _text(rng: Random) -> _Parts:
    p = rng.choice(TEXTS)
    kind, java, python = rng.choice(
        (
            ("int", f"{p}.length()", f"len({p})"),
            ("String", f"{p}.toUpperCase()", f"{p}.upper()"),
            ("String", f"{p}.toLowerCase()", f"{p}.lower()"),
            ("String", f"{p}.trim()", f"{p}.strip()"),
            ("boolean", f"{p}.isEmpty()", f"not {p}"),
            ("boolean", f"{p} == null", f"{p} is None"),
            ("boolean", f"{p} != null", f"{p} is not None"),
        )
    )
    return kind, f"String {p}", [f"return {java};"], [f"return {python}"]


def _flag(rng: Random) -> _Parts:
    p, q, (java, python) = rng.choice(FLAGS), rng.choice(SECOND_NUMBERS), rng.choice(_BOTH)
    op, c, no = rng.choice("<>"), _digit(rng), rng.random() < 0.5
    one = [f"return {'!' if no else ''}{p} {java} {q} {op} {c};"]
    return "boolean", f"boolean {p}, int {q}", one, [f"return {'not ' if no else ''}{p} {python} {q} {op} {c}"]


def _sum(rng: Random) -> _Parts:
    p, v = rng.choice(LISTS), rng.choice(("item", "value"))
    start, op = rng.choice(((0, "+="), (1, "*="), (0, "-=")))
    java = [f"int result = {start};", f"for (int {v} : {p}) {{", f"    result {op} {v};", "}", "return result;"]
    python = [f"result = {start}", f"for {v} in {p}:", f"    result {op} {v}", "return result"]
    return "int", f"int[] {p}", java, python


def _count(rng: Random) -> _Parts:
    p, q, op = rng.choice(LISTS), rng.choice(SECOND_NUMBERS), rng.choice(("<", ">", "=="))
    java = [
        "int result = 0;",
        f"for (int item : {p}) {{",
        f"    if (item {op} {q}) {{",
        "        result++;",
        "    }",
        "}",
    ]
    python = ["result = 0", f"for item in {p}:", f"    if item {op} {q}:", "        result += 1", "return result"]
    return "int", f"int[] {p}, int {q}", [*java, "return result;"], python


def _loop(rng: Random) -> _Parts:
    p, op, c = rng.choice(FIRST_NUMBERS), rng.choice(("+=", "*=")), _digit(rng)
    java = [f"for (int i = 0; i < {c}; i++) {{", f"    {p} {op} 2;", "}", f"return {p};"]
    return "int", f"int {p}", java, [f"for i in range({c}):", f"    {p} {op} 2", f"return {p}"]


def _while(rng: Random) -> _Parts:
    p, q, c = rng.choice(FIRST_NUMBERS), rng.choice(SECOND_NUMBERS), _digit(rng)
    java = [f"while ({p} > {q}) {{", f"    {p} -= {c};", "}", f"return {p};"]
    return "int", f"int {p}, int {q}", java, [f"while {p} > {q}:", f"    {p} -= {c}", f"return {p}"]


def _choice(rng: Random) -> _Parts:
    p, q, op, c = rng.choice(FLAGS), rng.choice(SECOND_NUMBERS), rng.choice("+-*"), _digit(rng)
    java = [f"return {p} ? {q} {op} {c} : {q};"]
    return "int", f"boolean {p}, int {q}", java, [f"return {q} {op} {c} if {p} else {q}"]


_SHAPES: tuple[Callable[[Random], _Parts], ...] = (
    *(_arithmetic, _constant, _comparison, _two_conditions, _early_return, _bigger, _text, _flag, _sum, _count),
    *(_loop, _while, _choice),
)


def function(rng: Random, split: Split) -> tuple[str, str]:
    """Returns a Java function and its Python translation.

    The pair (verb, noun) in the function's name belongs to `split`.
    """
    verb, noun = draw_pair(rng, split, "function", VERBS, NOUNS)
    kind, parameters, java, python = rng.choice(_SHAPES)(rng)
    names = ", ".join(parameter.split()[-1] for parameter in parameters.split(", "))
    java_lines = [f"static {kind} {verb}{noun}({parameters}) {{", *(f"    {line}" for line in java), "}"]
    python_lines = [f"def {verb}_{noun.lower()}({names}):", *(f"    {line}" for line in python)]
    return "\n".join(java_lines), "\n".join(python_lines)
