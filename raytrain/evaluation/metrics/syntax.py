"""Does code parse? By tree-sitter's grammars, which need no compiler of the language."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from raytrain.evaluation.metrics.base import MeanMetric, Meta
from raytrain_core.errors import DataError

# Package of the grammar, and what a lone method is put into where the language has no lone methods.
_GRAMMARS = {
    "java": ("tree_sitter_java", "class Wrapped {{\n{}\n}}"),
    "c#": ("tree_sitter_c_sharp", "class Wrapped {{\n{}\n}}"),
    "python": ("tree_sitter_python", ""),
}
_OTHER_NAMES = {"csharp": "c#", "cs": "c#", "c-sharp": "c#", "py": "python", "python3": "python"}


def language_of(name: str | None) -> str | None:
    """The language that a job's `fields.to` names, None where there is no grammar for it."""
    key = (name or "").strip().casefold()
    key = _OTHER_NAMES.get(key, key)
    return key if key in _GRAMMARS else None


@cache
def _parser(language: str) -> Any:
    from tree_sitter import Language, Parser

    return Parser(Language(import_module(_GRAMMARS[language][0]).language()))


def parses(code: str, language: str) -> bool:
    """Whether `code` is a file of the language, or what may stand in a class, without a syntax error."""
    if not code.strip():
        return False
    wrapper = _GRAMMARS[language][1]
    texts = [code, wrapper.format(code)] if wrapper else [code]
    return any(not _parser(language).parse(text.encode(errors="replace")).root_node.has_error for text in texts)


class Parses(MeanMetric):
    """Share of answers that are code without a syntax error; the references' own share stands beside it."""

    name = "parses"

    @property
    def protocol(self) -> str:
        """Grammar versions and wrapping."""
        grammars = ", ".join(f"{p} {version(p)}" for p in (g.replace("_", "-") for g, _ in _GRAMMARS.values()))
        return (
            f"tree-sitter {version('tree-sitter')} ({grammars}); as a file or as what stands in a class; "
            "a reference need not parse either"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0; DataError where the language is not known."""
        language = language_of(meta.get("language"))
        if language is None:
            raise DataError(
                f"parses: there is no grammar for {meta.get('language')!r}",
                hint=f"Set fields.to of the task to one of {', '.join(_GRAMMARS)}, or leave the metric out.",
            )
        return float(parses(prediction, language))

    def of_references(self, targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> float | None:
        """The share of first references that parse."""
        if not targets:
            return None
        found = [self.value(several[0], several, meta) for several, meta in zip(targets, metas, strict=True)]
        return sum(found) / len(found)
