"""What `raytrain doctor` says about a cluster."""

import pytest

from raytrain.cluster import doctor
from raytrain.cluster.doctor import _line, of_storage
from raytrain.kubernetes.client import ApiError
from raytrain_core.errors import StorageError
from raytrain_core.storage import StorageLocation


class Server:
    """A fake API server with jobs of given phases."""

    def __init__(self, phases, *, kueue=False):
        self.phases, self.kueue = phases, kueue

    def list(self, kind, namespace):
        if self.phases is None:
            raise ApiError(403, "Forbidden", "no")
        return [{"status": {"phase": phase, "place": 1 if phase == "Queued" else None}} for phase in self.phases]

    def serves(self, kind):
        return self.kueue


@pytest.mark.parametrize(
    ("phases", "kueue", "expected"),
    [
        (None, False, []),
        (["Queued", "Training"], False, []),
        (["Queued", "Queued", "Training"], False, ["2 jobs wait in team", "install Kueue"]),
        (["Queued", "Queued"], True, ["2 jobs wait in team", "cluster.queue", "Kueue is installed"]),
    ],
)
def test_where_several_jobs_wait_doctor_leads_to_kueue(phases, kueue, expected):
    checks = list(_line(Server(phases, kueue=kueue), "team"))
    assert len(checks) == bool(expected)
    for words in expected:
        assert words in checks[0].what


def test_what_the_storage_does_not_support_is_said(tmp_path, monkeypatch):
    """What the probe finds is tested with stores of other makes in `test_s3_other_makes.py`."""
    storage = StorageLocation(uri=tmp_path.as_uri())
    assert of_storage(storage).what.endswith("can be written, read and deleted")
    monkeypatch.setattr(doctor, "probe", lambda store: ("metadata are lost: uploads are read back",))
    assert of_storage(storage).what.endswith("deleted; metadata are lost: uploads are read back")

    def refused(store):
        raise StorageError("it ignores conditional writes", hint="Use another store.")

    monkeypatch.setattr(doctor, "probe", refused)
    check = of_storage(storage)
    assert (check.ok, check.hint) == (False, "Use another store.")
    assert check.what.endswith("deleted: it ignores conditional writes")
