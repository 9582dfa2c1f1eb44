"""Worlds, jobs and scripts to try raytrain with.

No product code imports anything from here.
"""
