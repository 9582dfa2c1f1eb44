"""Evaluation: examples, metrics, score cards, and the actors that generate while training runs.

An `Evaluator` turns generations into committed score cards. A `StageScorer` scores stages with
it, on chunks that an `ActorPool` serves; `local` does the same without Ray.
"""
