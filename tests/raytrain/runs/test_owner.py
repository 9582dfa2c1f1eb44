"""A run in storage belongs to one owner, who is never pushed aside."""

import pytest

from raytrain.config.job_status import OWNER_VARIABLE
from raytrain.config.run_layout import RunLayout
from raytrain.pipeline.context import start_over
from raytrain.runs.owner import claim_run
from raytrain_core.errors import UsageError
from raytrain_core.storage import open_store

LAYOUT = RunLayout("assistant")
TEAM, OTHER = "namespace team (1)", "namespace team (2)"


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


@pytest.fixture
def claim(store, monkeypatch):
    def claim_as(owner):
        monkeypatch.setenv(OWNER_VARIABLE, owner)
        claim_run(store, LAYOUT)

    return claim_as


def test_the_first_owner_stays_and_a_stranger_is_refused(claim, store):
    claim(TEAM)
    claim(TEAM)  # the next attempt
    before = store.get(LAYOUT.owner)
    for stranger in (OTHER, ""):
        with pytest.raises(UsageError, match=r"belongs to namespace team \(1\)"):
            claim(stranger)
    assert store.get(LAYOUT.owner) == before


def test_a_run_of_the_command_line_has_no_mark_and_is_not_taken_over(claim, store):
    claim("")
    assert not any(store.list(LAYOUT.owner))
    store.put(LAYOUT.job, b"kind: FineTuneJob")
    claim("")
    with pytest.raises(UsageError, match="belongs to the command line"):
        claim(TEAM)


def test_of_two_owners_at_once_one_wins(claim, store, monkeypatch):
    real = store.put

    def put(key, data, **options):  # somebody is faster, between our look and our mark
        real(key, b'{"owner": "namespace team (2)"}')
        return real(key, data, **options)

    monkeypatch.setattr(type(store), "put", lambda _, *args, **options: put(*args, **options))
    with pytest.raises(UsageError, match=r"belongs to namespace team \(2\)"):
        claim(TEAM)


@pytest.mark.parametrize("mark", [b"", b"[]", b"{}", b"null"])
def test_a_mark_that_cannot_be_read_refuses(claim, store, mark):
    store.put(LAYOUT.owner, mark)
    with pytest.raises(UsageError, match="cannot be read"):
        claim(TEAM)


def test_to_start_over_keeps_the_mark(claim, store):
    claim(TEAM)
    store.put(LAYOUT.job, b"x")
    start_over(store, LAYOUT)
    assert not any(store.list(LAYOUT.job))
    assert any(store.list(LAYOUT.owner))
