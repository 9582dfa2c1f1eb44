"""Whether code parses, by tree-sitter's grammars, which need no compiler of the language."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from raytrain.evaluation.metrics.base import MeanMetric, Meta
from raytrain_core.errors import DataError

# Package of the grammar, and a class to wrap a method in where the language has no free functions.
_GRAMMARS = {
    "java": ("tree_sitter_java", "class Wrapped {{\n{}\n}}"),
    "c#": ("tree_sitter_c_sharp", "class Wrapped {{\n{}\n}}"),
    "python": ("tree_sitter_python", ""),
}
_ALIASES = {"csharp": "c#", "cs": "c#", "c-sharp": "c#", "py": "python", "python3": "python"}


def language_of(name: str | None) -> str | None:
    """Returns the language that a task's `fields.to` names, or None without a grammar for it."""
    key = (name or "").strip().casefold()
    key = _ALIASES.get(key, key)
    return key if key in _GRAMMARS else None


@cache
def _parser(language: str) -> Any:
    from tree_sitter import Language, Parser

    return Parser(Language(import_module(_GRAMMARS[language][0]).language()))


def parses(code: str, language: str) -> bool:
    """Whether `code` has no syntax error, as a file or as the body of a class."""
    if not code.strip():
        return False
    wrapper = _GRAMMARS[language][1]
    if not _root(code, language).has_error:
        return True
    wrapped = _root(wrapper.format(code), language) if wrapper else None
    # Code that closes the class and opens another one is no body: `} class B {`.
    return wrapped is not None and not wrapped.has_error and len(wrapped.named_children) == 1


def _root(code: str, language: str) -> Any:
    return _parser(language).parse(code.encode(errors="replace")).root_node


class Parses(MeanMetric):
    """Share of predictions that are code without a syntax error.

    References need not parse either, so their own share is reported too.
    """

    name = "parses"

    @property
    def protocol(self) -> str:
        """Versions of the grammars, and wrapping."""
        grammars = ", ".join(f"{p} {version(p)}" for p in (g.replace("_", "-") for g, _ in _GRAMMARS.values()))
        return (
            f"tree-sitter {version('tree-sitter')} ({grammars}); as a file or as the body of a class; "
            "a reference need not parse either"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0; raises DataError where there is no grammar for the language."""
        language = language_of(meta.get("language"))
        if language is None:
            raise DataError(
                f"parses: there is no grammar for {meta.get('language')!r}",
                hint=f"Set fields.to of the task to one of {', '.join(_GRAMMARS)}, or remove the metric.",
            )
        return float(parses(prediction, language))
