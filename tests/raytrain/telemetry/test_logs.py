import logging
import tempfile
from pathlib import Path

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry import logs
from raytrain.telemetry.logs import RunLog
from raytrain_core.errors import DataError, StorageError
from raytrain_core.storage import LocalStore
from raytrain_core.storage.scratch import sweep

LAYOUT = RunLayout("demo")


def text(store, source="driver", attempt=1):
    return store.get(LAYOUT.log(attempt, source)).decode()


def test_what_is_logged_ends_up_in_storage(any_store):
    with RunLog(any_store, LAYOUT, 1) as log:
        logging.getLogger("raytrain.training").info("step 1")
        logging.getLogger("somebody.else").info("chatter")
        logging.getLogger("somebody.else").warning("trouble")
        assert log.flush()
        assert "step 1" in text(any_store)
        logging.getLogger("data_prep.shards.manifest").info("step 2")
    lines = text(any_store).splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == ["step 1", "trouble", "step 2"]
    assert "INFO raytrain.training" in lines[0]


def test_libraries_do_not_chatter_where_ray_lets_everything_through(any_store, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    with RunLog(any_store, LAYOUT, 1):
        logging.getLogger("botocore.credentials").info("Found credentials in environment variables.")
        logging.getLogger("raytrain.training").info("step 1")
        logging.getLogger("raytrainer").info("somebody else's")
    assert [line.split(": ", 1)[1] for line in text(any_store).splitlines()] == ["step 1"]


def test_logging_is_left_as_it_was(tmp_path):
    def state():
        ours = [logging.getLogger(name) for name in ("raytrain", "data_prep")]
        return list(logging.getLogger().handlers), [logger.level for logger in ours]

    before = state()
    with RunLog(LocalStore(tmp_path), LAYOUT, 1):
        assert state() != before
    assert state() == before


def test_ranks_and_attempts_have_logs_of_their_own(tmp_path):
    store = LocalStore(tmp_path)
    for attempt, source in ((1, "rank-000"), (2, "rank-000"), (2, "driver")):
        with RunLog(store, LAYOUT, attempt, source):
            logging.getLogger("raytrain").info("%s %s", attempt, source)
    assert text(store, "rank-000", 1).endswith("1 rank-000\n")
    assert text(store, "rank-000", 2).endswith("2 rank-000\n")
    assert text(store, "driver", 2).endswith("2 driver\n")


def test_a_rank_that_begins_again_goes_on_with_its_log(any_store):
    """Ray restarts a worker group within an attempt; the log of the previous group must survive."""
    for said in ("rank 1 has got no further", "and again"):
        with RunLog(any_store, LAYOUT, 1, "rank-001"):
            logging.getLogger("raytrain").error(said)
    assert [line.split(": ", 1)[1] for line in text(any_store, "rank-001").splitlines()] == [
        "rank 1 has got no further",
        "and again",
    ]


def test_an_error_that_ends_the_run_is_in_its_log(tmp_path):
    store = LocalStore(tmp_path)
    with pytest.raises(ZeroDivisionError), RunLog(store, LAYOUT, 1):
        raise ZeroDivisionError
    assert "ZeroDivisionError" in text(store)
    assert "Traceback" in text(store)


def test_secrets_of_the_environment_are_masked(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary/secret+1")
    monkeypatch.setenv("HF_TOKEN", "hf_canarycanary")
    monkeypatch.setenv("A_TOKEN", "hf_canary")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "nothing-secret")
    store = LocalStore(tmp_path)

    def fail() -> None:
        with RunLog(store, LAYOUT, 1):
            logging.getLogger("raytrain").info("with canary/secret+1 and %s, nothing-secret", "hf_canarycanary")
            raise RuntimeError("canary/secret+1")

    with pytest.raises(RuntimeError):
        fail()
    assert "canary" not in text(store)
    assert "with *** and ***, nothing-secret" in text(store)  # and nothing is left of the longer of two alike


def test_a_broken_store_does_not_end_the_run(tmp_path, caplog):
    class Broken(LocalStore):
        def put(self, key, data, *, if_absent=False):
            raise StorageError("no room")

    with RunLog(Broken(tmp_path), LAYOUT, 1) as log:
        logging.getLogger("raytrain").info("hello")
        assert not log.flush()
    assert "log of driver could not be stored and will be retried: no room" in caplog.text


def test_the_traceback_of_an_error_is_in_the_log_and_not_on_the_terminal(tmp_path, monkeypatch, capsys):
    store = LocalStore(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a command: warnings go to standard error

    def fail() -> None:
        with RunLog(store, LAYOUT, 1):
            logging.getLogger("somebody.else").warning("a warning")
            raise DataError("there is no rows.jsonl")

    with pytest.raises(DataError):
        fail()
    assert capsys.readouterr().err == "a warning\n"
    assert "ERROR raytrain.telemetry.logs: ended with an error\nTraceback" in text(store)
    assert "there is no rows.jsonl" in text(store)


def test_the_local_file_is_held_while_it_is_written_and_then_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with RunLog(LocalStore(tmp_path / "store"), LAYOUT, 1):
        assert sweep() == 0  # of another run that starts meanwhile
        logging.getLogger("raytrain").info("still here")
    assert "still here" in text(LocalStore(tmp_path / "store"))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_full_disk_hides_nothing(tmp_path, monkeypatch, capsys):
    class Full(logs._File):
        def __init__(self, path, background):
            super().__init__(Path("/dev/full"), background)

    monkeypatch.setattr(logs, "_File", Full)

    def fail() -> None:
        with RunLog(LocalStore(tmp_path), LAYOUT, 1):
            logging.getLogger("raytrain").info("a line")
            raise DataError("the reason")

    with pytest.raises(DataError, match="the reason"):
        fail()
    assert "Traceback" not in capsys.readouterr().err
