"""Asks a served model again and again, from a pod: one line of JSON for each request.

`python asking.py URL CLIENTS TEXTS`: each of the clients sends batches of so many texts, one after
the other, and shows the token of the environment. Only the standard library is needed.
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request

PAUSE_SECONDS = 0.2
TIMEOUT_SECONDS = 60


def ask(url: str, texts: int) -> dict[str, object]:
    """What came of one request: status and model, or status 0 and the error."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['TOKEN']}"}
    body = json.dumps({"texts": [f"Answer the question. What is {n}?" for n in range(texts)]}).encode()
    request = urllib.request.Request(f"{url}/generate/batch", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            content = json.load(response)
            assert len(content["generations"]) == texts
            return {"status": response.status, "model": content["model"]}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "error": error.read().decode(errors="replace")[:300]}
    except Exception as error:
        return {"status": 0, "error": repr(getattr(error, "reason", error))}


def _client(url: str, texts: int) -> None:
    while True:
        began = time.time()
        found = {"at": began, **ask(url, texts), "seconds": round(time.time() - began, 3)}
        sys.stdout.write(json.dumps(found) + "\n")  # one call, so that lines of clients do not mix
        sys.stdout.flush()
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        threading.Thread(target=_client, args=(sys.argv[1], int(sys.argv[3]))).start()
