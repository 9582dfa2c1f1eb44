"""The jobs of the comparison, each derived from the quickstart's.

    python -m examples.forgetting.runs        # writes jobs/*.yaml

Every run has the same base model, templates, learning rate and packing. `alone` sees as many tokens
of the summaries as the mixture does; the other runs all see the same number of tokens.
"""

import io
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HERE = Path(__file__).parent
JOBS = HERE / "jobs"
QUICKSTART = HERE.parent / "quickstart" / "job.yaml"
# Summaries are a quarter of the mixture's rows but, being long, more of its tokens (about 69 of 189
# for one row of each task, prompt and target together; `raytrain check` shows it).
_SHARE_OF_SUMMARIES = 0.36
_REHEARSAL_SHARE = 0.2

Job = dict[str, Any]
"""A job file as plain data."""


@dataclass(frozen=True)
class Run:
    """One run of the comparison; `change` turns the quickstart's job into this run's, in place."""

    name: str
    label: str
    summary: str
    change: Callable[[Job], None]


def alone(job: Job) -> None:
    """Trains on the summaries alone, on as many of their tokens as the mixture has."""
    for task in job["spec"]["tasks"]:
        if task["name"] != "summaries":
            task["probe"] = True
    training = job["spec"]["training"]
    training["steps"] = round(training["steps"] * _SHARE_OF_SUMMARIES)
    training["warmupSteps"] = round(training["warmupSteps"] * _SHARE_OF_SUMMARIES)


def mixture(job: Job) -> None:
    """Changes nothing: the quickstart trains on the mixture already."""


def replay(file: str, task: str) -> Callable[[Job], None]:
    """Returns a change that gives a fifth of the mixture to the base model's own training rows."""

    def change(job: Job) -> None:
        spec = job["spec"]
        trained = [t["name"] for t in spec["tasks"] if not t.get("probe")]
        spec["tasks"].append(
            {
                "name": task,
                "type": "text",
                "source": {"uri": f"./world/replay/{file}"},
                "templates": ["{input}"],  # these rows are complete prompts
                "templatesPerExample": 1,
                "metrics": ["exact_match"],
            }
        )
        weights = dict.fromkeys(trained, (1 - _REHEARSAL_SHARE) / len(trained)) | {task: _REHEARSAL_SHARE}
        spec["mixture"] |= {"strategy": "weights", "weights": weights}

    return change


RUNS = (
    Run("alone", "summaries alone", "Trained on the summaries alone, the other tasks only scored.", alone),
    Run("mixture", "four tasks", "Trained on the mixture of four tasks, as the quickstart is.", mixture),
    Run(
        "rehearse-others",
        "four tasks + other skills",
        "The mixture, and a fifth of the rows rehearse general skills of the base model, but not those of the probes.",
        replay("without-probes.jsonl", "other-skills"),
    ),
    Run(
        "rehearse-all",
        "four tasks + all skills",
        "The mixture, and a fifth of the rows rehearse all general skills, including those of the probes: this run "
        "does train on the probes' skills, though never on their test rows.",
        replay("all-skills.jsonl", "all-skills"),
    ),
)


def job_yaml(run: Run) -> str:
    """Returns the job file of a run."""
    head = f"# {run.summary}\n# Generated from ../../quickstart/job.yaml by `python -m examples.forgetting.runs`.\n"
    return head + as_yaml(derive_job(run.name, run.change, "../../quickstart"))


def derive_job(name: str, change: Callable[[Job], None], root: str) -> Job:
    """Returns the quickstart's job, renamed and changed, with relative paths under `root`."""
    job: Job = deepcopy(YAML(typ="safe").load(QUICKSTART))
    job["metadata"]["name"] = name
    change(job)
    spec = job["spec"]
    spec["model"] = _relocate(spec["model"], root)
    for task in spec["tasks"]:
        source = task["source"]
        task["source"] = (
            {"uri": _relocate(source["uri"], root)}
            if "uri" in source
            else {"splits": {split: _relocate(uri, root) for split, uri in source["splits"].items()}}
        )
    # The last checkpoint of each run, not its best: the best would be chosen by the trained tasks,
    # which differ between the runs.
    spec["evaluation"] |= {"every": spec["training"]["steps"], "select": "last"}
    return job


def as_yaml(job: Job) -> str:
    """Returns the job as YAML, keys in insertion order."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = False, 4096, False  # type: ignore[assignment]
    yaml.dump(job, text)
    return text.getvalue()


def _relocate(uri: str, root: str) -> str:
    return f"{root}/{uri.removeprefix('./')}" if uri.startswith("./") else uri


if __name__ == "__main__":
    JOBS.mkdir(exist_ok=True)
    for one in RUNS:
        (JOBS / f"{one.name}.yaml").write_text(job_yaml(one))
