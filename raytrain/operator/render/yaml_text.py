"""Objects as YAML text."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter


class _Representer(SafeRepresenter):
    """Text of several lines as a block, which people can read; nothing as an anchor."""

    def represent_text(self, data: str) -> ScalarNode:
        """Used for every string."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    def ignore_aliases(self, data: Any) -> bool:
        """Equal parts are written out each time."""
        return True


_Representer.add_representer(str, _Representer.represent_text)


def yaml_text(*documents: Mapping[str, Any]) -> str:
    """The documents as YAML, keys in their order, `---` between them."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump_all(documents, text)
    return text.getvalue()
