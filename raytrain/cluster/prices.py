"""The platform's prices, from the operator's settings in the cluster."""

from __future__ import annotations

from typing import Any

from raytrain.kubernetes.client import ApiError, KubernetesApi
from raytrain.operator.install.deployment import SETTINGS_KEY
from raytrain.operator.prices import Prices
from raytrain.operator.render.names import MANAGER
from raytrain_core.config.loader import ConfigError, from_mapping

_CONFIG_MAPS = ("v1", "ConfigMap")


def read_prices(api: KubernetesApi) -> tuple[Prices | None, str]:
    """The prices; without them, why. Raises ClusterError if the API server does not answer."""
    try:
        found = api.list(_CONFIG_MAPS, None, f"app.kubernetes.io/name={MANAGER}")
    except ApiError as error:
        if error.status not in (401, 403):
            raise
        why = "you may not read the operator's settings (list configmaps); status.usage has the cost once it runs"
        return None, why
    texts = [text for item in found if (text := (item.get("data") or {}).get(SETTINGS_KEY))]
    if not texts:
        return None, "no operator's settings were found in the cluster"
    content = _settings(texts[0])
    try:
        return from_mapping(content.get("prices") or {}, Prices, name="settings.prices"), ""
    except ConfigError as error:
        return None, f"the operator's settings are wrong: {error.message}"


def _settings(text: str) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return {}
    return found if isinstance(found, dict) else {}
