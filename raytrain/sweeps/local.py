"""A sweep on this machine, from its file to its leaderboard."""

from collections.abc import Callable

from raytrain.config.locations import storage_location
from raytrain.sweeps.engine import run_sweep
from raytrain.sweeps.leaderboard import SweepLeaderboard, make_leaderboard
from raytrain.sweeps.local_runs import LocalRuns, count_gpus, fitting
from raytrain.sweeps.page import write_leaderboard
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.search import proposer
from raytrain.sweeps.state import open_state, save_state
from raytrain.training.threads import cores
from raytrain_core.storage import StorageLocation, Store, open_store
from raytrain_core.storage.bucket_uri import is_in_bucket


def run_here(plan: SweepPlan, *, storage: str | None, say: Callable[[str], None]) -> SweepLeaderboard:
    """Runs a sweep, or goes on with it, and returns its leaderboard, which is stored too.

    Ctrl-C stops its runs so that the same call goes on; then KeyboardInterrupt is raised.
    """
    location, store = _storage(plan, storage)
    gpus = 0 if plan.job.spec.training.device == "cpu" else count_gpus()
    most = plan.spec.max_concurrent or fitting(plan.job.spec.resources, processors=cores(), gpus=gpus)
    runs = LocalRuns(store, location, plan.base_folder, plan.name, at_once=most, gpus=gpus)
    with runs.alone():
        _run(plan, store, runs, most, say)
    return leaderboard_here(plan, storage=storage)


def _run(plan: SweepPlan, store: Store, runs: LocalRuns, most: int, say: Callable[[str], None]) -> None:
    state = open_state(store, plan)
    for note in plan.settings()[1]:
        say(note)
    left = f"{len(state.waiting)} of {len(state.runs)} runs are left"
    say(f"{plan.name}: {left}, at most {most} at once; what they print is in {runs.folder}")
    try:
        run_sweep(
            plan,
            state,
            runs,
            most=most,
            save=lambda: save_state(store, plan, state),
            say=say,
            propose=proposer(plan, lambda name: store),
        )
    finally:
        runs.stop_all(say)


def leaderboard_here(plan: SweepPlan, *, storage: str | None) -> SweepLeaderboard:
    """Makes the leaderboard of what has run so far, and stores it."""
    _, store = _storage(plan, storage)
    board = make_leaderboard(plan, open_state(store, plan), lambda name: store, storage=store.uri)
    write_leaderboard(store, board)
    return board


def _storage(plan: SweepPlan, flag: str | None) -> tuple[StorageLocation, Store]:
    location = storage_location(flag, plan.job, base_folder=plan.base_folder)
    store = open_store(location)
    placed = location if is_in_bucket(location.uri) else StorageLocation(uri=store.uri)
    return placed, store
