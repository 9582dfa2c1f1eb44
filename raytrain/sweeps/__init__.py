"""Sweeps: many runs of one job, what each gained and forgot, and which is better than the job.

Every run is an ordinary run of the same storage. What a sweep adds is kept under `sweeps/NAME/`.
"""
