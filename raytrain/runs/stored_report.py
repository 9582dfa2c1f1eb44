"""The report as the run wrote it, for a client without the libraries that compute one."""

from raytrain.config.run_layout import RunLayout
from raytrain_core.errors import UsageError
from raytrain_core.extras import how_to_install
from raytrain_core.storage import NotFoundError, Store
from raytrain_core.storage.commit import MANIFEST


def require_report(store: Store, layout: RunLayout) -> str:
    """Returns the URI of the page; UsageError if the run has not written a report yet."""
    try:
        store.get(f"{layout.report}/{MANIFEST}")
    except NotFoundError:
        raise UsageError(
            f"run {layout.name} has not written a report yet",
            hint=f"`raytrain status {layout.name}` shows how far it is; {how_to_install('train')} writes one from here",
        ) from None
    return f"{store.uri}/{layout.report}/index.html"
