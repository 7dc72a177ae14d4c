"""`python -m diqkd`."""

import sys

from diqkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
