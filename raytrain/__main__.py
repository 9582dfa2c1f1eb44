"""`python -m raytrain` is `raytrain`."""

import sys

from raytrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
