"""The object store: one verified way to put bytes somewhere and to get exactly those bytes back."""
