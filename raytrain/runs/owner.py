"""Whose run it is: a mark in storage, put only if absent, that refuses everybody else.

Runs of one name may meet in one storage: of two clusters, or of a cluster and a laptop. A run of
the operator belongs to its namespace, known by the namespace's UID; a run without a mark belongs to
the command line, wherever it is typed.
"""

import json
import os

from raytrain.config.job_status import OWNER_VARIABLE
from raytrain.config.run_layout import RunLayout
from raytrain_core.errors import UsageError
from raytrain_core.storage import AlreadyExistsError, NotFoundError, Store

COMMAND_LINE = "the command line"


def claim_run(store: Store, layout: RunLayout) -> None:
    """Marks the run as ours, or finds that it is; raises UsageError if it is somebody else's.

    Called before anything of the run is read or written.
    """
    me = os.environ.get(OWNER_VARIABLE) or COMMAND_LINE
    owner = _owner(store, layout)
    if owner is None and me != COMMAND_LINE:
        mark = json.dumps({"owner": me}) + "\n"
        try:
            store.put(layout.owner, mark.encode(), if_absent=True)
        except AlreadyExistsError:
            owner = _owner(store, layout)
    if owner not in (None, me):
        raise UsageError(
            f"{store.uri}/{layout.root} belongs to {owner}; here is {me}",
            hint="give the job another metadata.name or storage; to hand the run over, delete "
            f"{store.uri}/{layout.owner} while nobody runs it",
        )


def _owner(store: Store, layout: RunLayout) -> str | None:
    """Whose run it is; None if nobody has begun it."""
    try:
        return str(json.loads(store.get(layout.owner))["owner"])
    except NotFoundError:
        return COMMAND_LINE if any(store.list(layout.job)) else None
    except (ValueError, KeyError, TypeError):
        return "somebody whose mark cannot be read"
