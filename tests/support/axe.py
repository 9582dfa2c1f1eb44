"""axe-core, which finds what keep people from reading a page; fetched by npm when a test needs it.

It is not part of this repository (550 kB, MPL-2.0). The version is pinned by its hash.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.browser import Tab

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
_RUN = "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations))"


@cache
def axe_source() -> str | None:
    """Returns axe's script, None where there is no npm or it reaches no registry."""
    if shutil.which("npm") is None:
        return None
    with TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"axe-core@{VERSION}"]
        if subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False).returncode:
            return None
        package = Path(folder) / f"axe-core-{VERSION}.tgz"
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        assert digest == SHA512, f"axe-core {VERSION} is not the package that was pinned"
        with tarfile.open(package) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            return script.read().decode()


async def violations(tab: Tab) -> list[tuple[str, str, list[str]]]:
    """Returns the serious and critical violations on the page: rule, what it says, where."""
    source = axe_source()
    assert source is not None
    await tab.js(f"{source};0")
    found: list[dict[str, Any]] = json.loads(await tab.js(_RUN))
    return [
        (
            rule["id"],
            rule["help"],
            [node["html"][:160] + " " + node.get("failureSummary", "")[:200] for node in rule["nodes"][:5]],
        )
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
