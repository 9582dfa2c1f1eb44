"""Every Python process that starts with this on its path has a `time.time` that is wrong by CLOCK_OFFSET seconds.

libfaketime would reach all code, but Ray does not start under it (2.60: invalid argument); a
`datetime` put in place of the real one ends pyarrow with a segmentation fault.
"""

import os
import time

_offset = float(os.environ["CLOCK_OFFSET"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _offset
time.time_ns = lambda: _time_ns() + int(_offset * 1e9)
