"""What pytest asks of the folder: it cannot collect two test files of one name from two folders."""

from collections import Counter
from pathlib import Path


def test_no_two_modules_of_the_tests_share_a_name() -> None:
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py"))
    shared = {name for name, count in names.items() if count > 1} - {"conftest.py", "__init__.py"}
    assert not shared, f"rename one of each: {', '.join(sorted(shared))}"
