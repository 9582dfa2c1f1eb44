"""The jobs of the comparison, all made from the quickstart's.

    python -m examples.forgetting.arms        # writes jobs/*.yaml anew

Every run has the same base model, wordings, learning rate and row shape. `alone` sees as many
tokens of the summaries as the mixture does; the others see as many tokens as each other.
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
# for one row of each task, prompt and answer together; `raytrain check` shows it).
_SHARE_OF_SUMMARIES = 0.36
_REHEARSAL_SHARE = 0.2

Job = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One run: its name, how the picture calls it, what it is, and how its job differs from the mixture's."""

    name: str
    label: str
    sentence: str
    change: Callable[[Job], None]


def alone(job: Job) -> None:
    """One task is trained, the others are probes; as many of its tokens as the mixture holds."""
    for task in job["spec"]["tasks"]:
        if task["name"] != "summaries":
            task["probe"] = True
    training = job["spec"]["training"]
    training["steps"] = round(training["steps"] * _SHARE_OF_SUMMARIES)
    training["warmupSteps"] = round(training["warmupSteps"] * _SHARE_OF_SUMMARIES)


def mixture(job: Job) -> None:
    """Leave it as it is."""


def replay(file: str, task: str) -> Callable[[Job], None]:
    """A fifth of the rows rehearse what the base model was taught."""

    def change(job: Job) -> None:
        spec = job["spec"]
        trained = [t["name"] for t in spec["tasks"] if not t.get("probe")]
        spec["tasks"].append(
            {
                "name": task,
                "type": "text",
                "source": {"uri": f"./world/replay/{file}"},
                "templates": ["{input}"],  # these rows bring their own wordings
                "templatesPerExample": 1,
                "metrics": ["exact_match"],
            }
        )
        weights = dict.fromkeys(trained, (1 - _REHEARSAL_SHARE) / len(trained)) | {task: _REHEARSAL_SHARE}
        spec["mixture"] |= {"strategy": "weights", "weights": weights}

    return change


ARMS = (
    Arm("alone", "summaries alone", "Trained on the summaries alone, the other tasks only scored.", alone),
    Arm("mixture", "four tasks", "Trained on the mixture of four tasks, as the quickstart is.", mixture),
    Arm(
        "rehearse-others",
        "four tasks + other skills",
        "The mixture, and a fifth of the rows rehearse general skills of the base model, but not those of the probes.",
        replay("without-probes.jsonl", "other-skills"),
    ),
    Arm(
        "rehearse-all",
        "four tasks + all skills",
        "The mixture, and a fifth of the rows rehearse all general skills, the probes' own among them: so this run "
        "does train on what the probes ask, though never on their test rows.",
        replay("all-skills.jsonl", "all-skills"),
    ),
)


def job_yaml(arm: Arm) -> str:
    """The job of one run, as YAML."""
    head = f"# {arm.sentence}\n# Made from ../../quickstart/job.yaml by `python -m examples.forgetting.arms`.\n"
    return head + as_yaml(made(arm.name, arm.change, "../../quickstart"))


def made(name: str, change: Callable[[Job], None], root: str) -> Job:
    """The quickstart's job under another name, changed; its paths begin with `root` instead of `.`."""
    job: Job = deepcopy(YAML(typ="safe").load(QUICKSTART))
    job["metadata"]["name"] = name
    change(job)
    spec = job["spec"]
    spec["model"] = _moved(spec["model"], root)
    for task in spec["tasks"]:
        source = task["source"]
        task["source"] = (
            {"uri": _moved(source["uri"], root)}
            if "uri" in source
            else {"splits": {split: _moved(uri, root) for split, uri in source["splits"].items()}}
        )
    # The last checkpoint of each, not its best: the best would be chosen by the trained tasks,
    # which differ.
    spec["evaluation"] |= {"every": spec["training"]["steps"], "select": "last"}
    return job


def as_yaml(job: Job) -> str:
    """In the order in which it was made."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = False, 4096, False  # type: ignore[assignment]
    yaml.dump(job, text)
    return text.getvalue()


def _moved(uri: str, root: str) -> str:
    return f"{root}/{uri.removeprefix('./')}" if uri.startswith("./") else uri


if __name__ == "__main__":
    JOBS.mkdir(exist_ok=True)
    for one in ARMS:
        (JOBS / f"{one.name}.yaml").write_text(job_yaml(one))
