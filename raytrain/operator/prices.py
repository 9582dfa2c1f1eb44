"""What a GPU costs: the platform's table, and the price of the GPUs that a job may get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from raytrain.config.cluster import ClusterSpec
from raytrain.config.job import FineTuneJob
from raytrain_core.config.base import SpecModel

GPU_LABEL = "nvidia.com/gpu.product"


class Prices(SpecModel):
    """The prices of GPUs; without them costs are unknown."""

    currency: str = Field(default="USD", pattern="^[A-Z]{3}$", description="Currency of the prices, e.g. EUR.")
    label: str = Field(
        default=GPU_LABEL,
        min_length=1,
        description=(
            "Label of nodes whose values gpuHour names: the type of their GPUs, or node.kubernetes.io/instance-type."
        ),
    )
    gpu_hour: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description=(
            "Price of one GPU for an hour, by a value of that label, or else by the resource's name "
            "(nvidia.com/gpu, nvidia.com/mig-1g.10gb)."
        ),
    )


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Price of a GPU-hour: nodes that a job may get can differ."""

    low: float
    high: float
    currency: str

    def of_hours(self, hours: float) -> str:
        """`4.10`, or `4.10 to 6.00`."""
        low, high = f"{self.low * hours:.2f}", f"{self.high * hours:.2f}"
        return low if low == high else f"{low} to {high}"


def price_of(
    job: FineTuneJob, prices: Prices, nodes: Iterable[Mapping[str, Any]] | None
) -> tuple[PriceRange | None, str]:
    """The price of one of the job's GPUs for an hour; without one, why it is unknown.

    `nodes` None stands for nodes that may not be read: then the job's node selector, or the
    resource's name, has to say it.
    """
    if not prices.gpu_hour:
        return None, "the operator's settings have no prices (settings.prices.gpuHour)"
    resource = job.spec.resources.training.resource_name
    selector = (job.spec.cluster or ClusterSpec()).node_selector
    if prices.label in selector or nodes is None:
        types = {selector.get(prices.label, "")}
    else:
        types = {_labels(node).get(prices.label, "") for node in nodes if _may_run(node, resource, selector)} or {""}
    table = prices.gpu_hour
    found = {kind: table.get(kind, table.get(resource)) for kind in types}
    unknown = sorted(kind or f"nodes without {prices.label}" for kind, price in found.items() if price is None)
    if unknown:
        return None, f"settings.prices.gpuHour has no price of {', '.join(unknown)}, and none of {resource}"
    known = [price for price in found.values() if price is not None]
    return PriceRange(min(known), max(known), prices.currency), ", ".join(sorted(filter(None, types))) or resource


def unused_prices(prices: Prices, nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys of the table that no node has, as a label's value or as a resource: perhaps misspelt."""
    there: set[str] = set()
    for node in nodes:
        there |= {_labels(node).get(prices.label, ""), *((node.get("status") or {}).get("allocatable") or {})}
    return sorted(prices.gpu_hour.keys() - there)


def _labels(node: Mapping[str, Any]) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _may_run(node: Mapping[str, Any], resource: str, selector: Mapping[str, str]) -> bool:
    offers = str(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0"))
    return offers != "0" and all(_labels(node).get(key) == value for key, value in selector.items())
