"""The pages keep to the program: the commands, modules, files and layers that they name exist."""

import argparse
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from diqkd.cli import build_parser
from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = "diqkd|diqkd_node|diqkd_postproc|sim_devices|campaigns|benchmarks"
FOLDERS = f"{PACKAGES}|repository|device_db|tests|docs"
ELLIPSES = ("...", "…")
# What stands for an argument in running text, such as RUN or ID, is a file name or a word to the parser.
PLACEHOLDER = "x"


def shown_commands(text: str) -> list[str]:
    """The shell lines that begin with `diqkd`, of indented and fenced blocks, continuations joined."""
    joined = re.sub(r" *\\\n\s*", " ", text)
    lines = []
    fenced = False
    for line in joined.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or re.match(r"(    |\t)", line):
            for part in re.split(r"&&|\|", line):
                words = re.sub(r"(^|\s)#.*", "", part).strip().removeprefix(".venv/bin/")
                if words.startswith("diqkd "):
                    lines.append(words)
    return lines


def mentioned_commands(text: str) -> list[str]:
    """What is shown as `diqkd ...` within a sentence, where arguments may be left out."""
    return re.findall(r"`(diqkd [^`]+)`", text.replace("\n", " "))


def parse(words: list[str]) -> str | None:
    """Why the parser refuses the words, or None."""
    parser = build_parser()
    try:
        arguments, rest = parser.parse_known_args(words)
    except SystemExit as error:
        return f"exit code {error.code}"
    if arguments.command == "node":  # as in `cli.main`
        rest = [text for text in rest if text.startswith("-")]
    return f"unknown: {' '.join(rest)}" if rest else None


def leaf(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the command that the words name, and what follows the name."""
    parser = build_parser()
    while True:
        deeper = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not deeper or not words or words[0].startswith("-"):
            return parser, words
        assert words[0] in deeper[0].choices, f"{parser.prog} has no command {words[0]}"
        parser, words = deeper[0].choices[words[0]], words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_of_the_pages_is_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    for command in shown_commands(text):
        # What is optional stands in brackets; it has to be understood as well.
        words = shlex.split(re.sub(r"[\[\]]", "", command).replace("~", "home"))[1:]
        if words[-1] in ELLIPSES and not words[-2].startswith("-"):
            words = words[:-1]
        words = [PLACEHOLDER if word in ELLIPSES else word for word in words]
        refusal = parse(words)
        assert refusal is None, f"{page.name}: {command}: {refusal} {capsys.readouterr().err[-300:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_options_named_in_sentences_exist(page: Path) -> None:
    for command in mentioned_commands(page.read_text(encoding="utf-8")):
        parser, rest = leaf(command.split()[1:])
        for word in rest:
            option = word.split("=")[0]
            if option.startswith("-"):
                assert option in parser._option_string_actions, f"{page.name}: {command}"


def test_the_pages_are_searched_where_commands_are() -> None:
    """The search finds what it is to find: a page without any command would pass for ever."""
    assert shown_commands("text\n\n    diqkd plan \\\n        --s 2.6   # why\n    ls && diqkd demo\n") == [
        "diqkd plan --s 2.6",
        "diqkd demo",
    ]
    assert mentioned_commands("so `diqkd keys\nshow` does") == ["diqkd keys show"]
    assert parse(["demo", "--nonsense"]) is not None
    found = sum(len(shown_commands(page.read_text(encoding="utf-8"))) for page in PAGES)
    assert found >= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_modules_and_files_named_in_the_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"(?:python -m |`)((?:{PACKAGES})(?:\.\w+)+)", text):
        is_dataset = name.startswith("diqkd.") and not (ROOT / "diqkd" / name.split(".")[1]).exists()
        if not is_dataset and not name.endswith(".NAME"):
            pkgutil.resolve_name(name)
    for path in re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w./]*\w\.(?:py|json|jsonl|csv)\b", text):
        assert (ROOT / path).exists() or "STEM" in path, f"{page.name}: {path}"


def test_the_page_on_architecture_has_the_layers_that_are_checked() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [c for c in configuration["tool"]["importlinter"]["contracts"] if "containers" in c]
    assert len(contracts) >= 3
    for contract in contracts:
        table = text.split(f"\n`{contract['containers'][0]}`\n")[1].strip().split("\n\n")[0]
        layers = {
            row.split("|")[1].strip(): re.sub(r"\(.*?\)|:.*", "", row) for row in table.splitlines()[2:]
        }
        assert list(layers) == [str(number + 1) for number in range(len(contract["layers"]))]
        shown = [set(re.findall(r"`(\w+)`", row)) for row in layers.values()]
        assert shown == [set(layer.split(" | ")) for layer in contract["layers"]], contract["name"]


def test_every_calibration_has_a_section_of_its_name() -> None:
    pages = [
        (ROOT / "docs" / name).read_text(encoding="utf-8")
        for name in ("calibrations.md", "characterisation.md")
    ]
    sections = set(re.findall(r"^## `(\w+)`$", "\n".join(pages), flags=re.M))
    stems = {
        path.stem
        for folder in ("calibrations", "link")
        for path in (ROOT / "repository" / folder).glob("*.py")
    }
    assert stems and stems <= sections, stems - sections
