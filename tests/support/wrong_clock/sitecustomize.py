"""Shifts `time.time` by CLOCK_OFFSET seconds in every Python process with this folder on its path.

libfaketime would reach all code, but Ray 2.60 does not start under it (invalid argument), and
replacing `datetime` crashes pyarrow with a segmentation fault.
"""

import os
import time

_offset = float(os.environ["CLOCK_OFFSET"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _offset
time.time_ns = lambda: _time_ns() + int(_offset * 1e9)
