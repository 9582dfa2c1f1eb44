"""The CronJob of docs/how-to/schedule.md creates a valid, dated job, and may do nothing else."""

import re
import subprocess

from ruamel.yaml import YAML

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import from_mapping
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs/how-to/schedule.md").read_text(encoding="utf-8")


def test_the_scheduled_job_is_valid_and_its_account_may_only_create_it(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = {item["kind"]: item for item in YAML(typ="safe", pure=True).load_all(block)}
    assert found["Role"]["rules"] == [
        {"apiGroups": ["raytrain.dev"], "resources": ["finetunejobs"], "verbs": ["create"]}
    ]
    pod = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == found["RoleBinding"]["subjects"][0]["name"]
    path = tmp_path / "job.yaml"
    path.write_text(found["ConfigMap"]["data"]["job.yaml"])
    command = pod["containers"][0]["args"][0].partition(" | ")[0].replace("/job/job.yaml", str(path))
    dated = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=True).stdout
    job = from_mapping(YAML(typ="safe", pure=True).load(dated), FineTuneJob, name="job")
    assert re.fullmatch(r"nightly-\d{8}", job.metadata.name)
