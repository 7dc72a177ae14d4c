"""Make `scripted_pair` importable by the tests of this directory, in any import mode of pytest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
