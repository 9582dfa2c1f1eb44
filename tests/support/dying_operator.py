"""An operator that is killed right before its nth API call (RAYTRAIN_TEST_DIES_AT, from 0)."""

import os
import signal
import sys
import threading
from typing import Any

from raytrain.kubernetes.client import KubernetesApi
from raytrain.operator.__main__ import main

_left = iter(range(int(os.environ["RAYTRAIN_TEST_DIES_AT"])))
_lock = threading.Lock()
_call = KubernetesApi.call


def _counted(self: KubernetesApi, *arguments: Any, **options: Any) -> Any:
    with _lock:
        if next(_left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
    return _call(self, *arguments, **options)


KubernetesApi.call = _counted  # type: ignore[method-assign]
sys.exit(main())
