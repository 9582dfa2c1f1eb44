"""Waits until a server has answered what it accepted; Kubernetes calls it before a pod ends.

`python -m raytrain.serving.drain SECONDS` waits so long at most. Requests still arrive for a moment
after a pod has been told to end, so it waits a few seconds in any case.
"""

import json
import sys
import time
import urllib.request

URL = "http://127.0.0.1:8000/healthz"
_LEAST_SECONDS, _EVERY_SECONDS = 5.0, 0.5


def waiting(url: str = URL) -> int:
    """Returns how many prompts are not answered yet; 0 if nothing answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(json.load(response)["waiting"])
    except (OSError, ValueError, KeyError):
        return 0


def drain(seconds: float, url: str = URL, *, least: float = _LEAST_SECONDS) -> bool:
    """Waits until nothing waits any more; returns False where that took longer than `seconds`."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if passed >= least and not waiting(url):
            return True
        time.sleep(_EVERY_SECONDS)
    return False


if __name__ == "__main__":
    drain(float(sys.argv[1]))
