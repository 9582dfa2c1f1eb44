"""The parts of the quickstart's run, from its events."""

from benchmarks.demo import parts_of


def test_the_parts_end_with_the_last_event_of_their_kind():
    kinds = ["RunStarted", "Prepared", "EvaluationFinished", "TrainingStarted", "CheckpointCommitted"]
    kinds += ["CheckpointCommitted", "ModelExported", "EvaluationFinished", "RunFinished"]
    events = [{"kind": kind, "time": f"2026-01-01T00:00:{2 * at:02}.500+00:00"} for at, kind in enumerate(kinds)]
    assert parts_of(events[::-1]) == {
        "prepare": 2.0,
        "score_base_model_and_start_workers": 4.0,
        "train": 4.0,
        "last_scores_and_export": 2.0,
        "score_tuned_model_and_report": 4.0,
    }
