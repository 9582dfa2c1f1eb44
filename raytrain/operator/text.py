"""Objects as YAML text."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML


def yaml_text(*documents: Mapping[str, Any]) -> str:
    """The documents as YAML, keys in their order, `---` between them."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.ignore_aliases = lambda data: True  # type: ignore[method-assign]
    text = io.StringIO()
    yaml.dump_all(documents, text)
    return text.getvalue()
