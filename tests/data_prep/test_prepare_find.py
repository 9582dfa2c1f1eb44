"""What `find` says is prepared is what `prepare` would give at once."""

from data_prep.config import Mixture
from data_prep.prepare import find
from tests.support.data_prep_bench import LIMITS, make_task, numbered


def found(bench, task, mixture=None):
    return find(
        [task],
        mixture or Mixture(),
        store=bench.store,
        tokenizer=bench.tokenizer,
        limits=LIMITS,
        base_folder=bench.folder,
    )


def test_only_what_is_prepared_is_found(bench):
    bench.write("rows.jsonl", numbered(60))
    task = make_task()
    assert found(bench, task) is None
    assert not list(bench.store.list("shards/parts/"))  # looking makes nothing
    shard_set = bench.prepare(task)
    assert found(bench, task) == shard_set
    assert found(bench, task, Mixture(seed=18)) is None
    assert found(bench, make_task(templates_per_example=2)) is None
    bench.write("rows.jsonl", numbered(61))
    assert found(bench, task) is None


def test_what_has_lost_its_tokenizer_is_not_found(bench):
    bench.write("rows.jsonl", numbered(60))
    shard_set = bench.prepare(make_task())
    bench.store.delete([part.key for part in shard_set.tokenizer.files.values()])
    assert found(bench, make_task()) is None
    assert bench.prepare(make_task()) == shard_set
    assert found(bench, make_task()) == shard_set
