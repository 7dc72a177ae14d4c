"""Minimal `artiq` package for machines without ARTIQ.

ARTIQ is not on PyPI. The package beside this file has just the names that our experiments import, so that
the experiment files run unchanged on the host engine. `install` puts a finder at the *end* of the import
path: a real ARTIQ, where there is one, always comes first.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).parent / "artiq"


class _StubFinder:
    """Finds the top-level name `artiq`; its submodules are then found along its `__path__`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "artiq":
            return None
        return importlib.util.spec_from_file_location(
            name, _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
        )


def install() -> None:
    """Make `import artiq` work. Does nothing where ARTIQ is installed, or when called again."""
    if _StubFinder not in sys.meta_path:
        sys.meta_path.append(_StubFinder)


def is_stub() -> bool:
    """True if `artiq` is the stub and not a real installation."""
    install()
    import artiq

    return hasattr(artiq, "__stub__")
