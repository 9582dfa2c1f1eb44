"""`raytrain serve`: the application in this process."""

from collections.abc import Callable

from raytrain.config.run_layout import RunLayout
from raytrain.config.serving import ServingPrecision
from raytrain.serving.application import application
from raytrain.serving.backend import LocalBackends
from raytrain.serving.http import hosts_for, serve_forever
from raytrain.serving.models import RunModels
from raytrain.serving.service import Service, ServiceLimits
from raytrain_core.storage import Store


def serve_run(
    store: Store,
    layout: RunLayout,
    *,
    host: str,
    port: int,
    limits: ServiceLimits,
    token: str | None,
    precision: ServingPrecision = "fp32",
    on_note: Callable[[str], None],
    on_ready: Callable[[str], None],
) -> None:
    """Loads the models of a run and serves until interrupted.

    Calls `on_note` with what whoever starts it should know, and `on_ready` with the address.

    Raises ClusterError where the port cannot be opened, and the errors of `RunModels`.
    """
    models = RunModels(store, layout, precision=precision)
    for which in ("before", "after") if models.is_tuned() else ("before",):
        models.load(which)
    service = Service(models, LocalBackends(models), run=layout.name, limits=limits)
    if service.notice is not None:
        on_note(service.notice)
    serve_forever(application(service, token=token, hosts=hosts_for(host)), host=host, port=port, on_ready=on_ready)
