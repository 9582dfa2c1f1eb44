"""What `raytrain doctor` says about a cluster."""

import pytest

from raytrain.cluster.doctor import _line
from raytrain.kubernetes.client import ApiError


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
