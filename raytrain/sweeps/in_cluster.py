"""A sweep in a cluster, from its file to its leaderboard: N FineTuneJobs, some at a time.

This process submits them and can be stopped at any time: submitted jobs go on, and the same call
goes on with the others. The sweep's own files are kept where the operator stores the runs of a
namespace, under the storage's URI and the namespace.
"""

from collections.abc import Callable

from raytrain.config.locations import storage_location
from raytrain.kubernetes.client import KubernetesApi
from raytrain.sweeps.cluster_runs import ClusterRuns
from raytrain.sweeps.engine import run_sweep
from raytrain.sweeps.leaderboard import SweepLeaderboard, make_leaderboard
from raytrain.sweeps.page import write_leaderboard
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.search import proposer
from raytrain.sweeps.state import SweepState, open_state, save_state
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.bucket_uri import is_in_bucket

MOST = 4
"""Runs at once where the sweep does not say."""


def run_in_cluster(
    plan: SweepPlan,
    api: KubernetesApi,
    namespace: str,
    *,
    storage: str | None,
    say: Callable[[str], None],
    poll_seconds: float = 5.0,
) -> SweepLeaderboard:
    """Submits the runs of a sweep as there is room, waits for them, and returns the leaderboard.

    Raises UsageError for a storage that pods cannot reach.
    """
    store = sweep_store(plan, namespace, storage)
    state = open_state(store, plan)
    for note in plan.settings()[1]:
        say(note)
    runs = ClusterRuns(
        api, namespace, plan, storage=storage, store=store, remembered=_remembered(plan, state, storage), say=say
    )
    most = plan.spec.max_concurrent or MOST
    say(f"{plan.name}: {len(state.waiting)} of {len(state.runs)} runs are left, at most {most} at once in {namespace}")
    run_sweep(
        plan,
        state,
        runs,
        most=most,
        save=lambda: save_state(store, plan, state),
        say=say,
        propose=proposer(plan, runs.store_of),
        poll_seconds=poll_seconds,
    )
    return leaderboard_in_cluster(plan, api, namespace, storage=storage, say=say)


def leaderboard_in_cluster(
    plan: SweepPlan, api: KubernetesApi, namespace: str, *, storage: str | None, say: Callable[[str], None]
) -> SweepLeaderboard:
    """Makes the leaderboard of what has run so far, and stores it."""
    store = sweep_store(plan, namespace, storage)
    state = open_state(store, plan)
    runs = ClusterRuns(
        api, namespace, plan, storage=storage, store=store, remembered=_remembered(plan, state, storage), say=say
    )
    board = make_leaderboard(plan, state, runs.store_of, storage=store.uri)
    write_leaderboard(store, board)
    return board


def sweep_store(plan: SweepPlan, namespace: str, storage: str | None) -> Store:
    """Opens the storage of the sweep's own files; UsageError if pods could not reach it."""
    location = storage_location(storage, plan.job, base_folder=plan.base_folder)
    if not is_in_bucket(location.uri):
        raise UsageError(
            f"storage {location.uri} is on this machine, where pods cannot reach it",
            hint="set spec.storage.uri of the job, or --storage, to a bucket: s3://, gs:// or az://",
        )
    return open_store(location.model_copy(update={"uri": f"{location.uri.rstrip('/')}/{namespace}"}))


def _remembered(plan: SweepPlan, state: SweepState, storage: str | None) -> dict[str, Store]:
    """Opens the storage of the runs that have ended."""
    location = storage_location(storage, plan.job, base_folder=plan.base_folder)
    uris = {run.storage for run in state.runs if run.storage is not None}
    stores = {uri: open_store(location.model_copy(update={"uri": uri})) for uri in uris}
    return {run.name: stores[run.storage] for run in state.runs if run.storage is not None}
