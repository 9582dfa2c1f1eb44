"""One run from preparation to report: the sentence, its stages, and the context that they share."""
