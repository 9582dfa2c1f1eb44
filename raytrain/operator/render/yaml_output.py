"""Writes objects as YAML."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter


class _Representer(SafeRepresenter):
    """Writes multi-line strings as readable blocks, and never uses anchors."""

    def represent_text(self, data: str) -> ScalarNode:
        """Represents a string, as a block if it has several lines."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    def ignore_aliases(self, data: Any) -> bool:
        """Always true: repeated parts are written out."""
        return True


_Representer.add_representer(str, _Representer.represent_text)


def to_yaml(*documents: Mapping[str, Any]) -> str:
    """Returns the documents as YAML, keys in their order, separated by `---`."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump_all(documents, text)
    return text.getvalue()
