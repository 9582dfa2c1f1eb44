"""An operator for one namespace needs no permissions outside it."""

import pytest

from tests.support.finetunejob_objects import finetunejob
from tests.support.operator_play import Play

pytestmark = pytest.mark.cluster


def test_with_permissions_in_one_namespace_the_operator_works_there(kubernetes, namespace, operator_here):
    body = finetunejob()
    kubernetes.apply({**body, "metadata": {"name": "assistant", "namespace": namespace}})
    play = Play(kubernetes, namespace)
    play.until("Pending")
    play.kuberay("assistant-a01", "Failed", "FAILED", reason="AppFailed", message="lost")
    play.until("Pending", attempts=2)
    log = operator_here.read_text()
    assert "Traceback" not in log, log[-3000:]
