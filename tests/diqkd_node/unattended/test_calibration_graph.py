"""The declared calibrations: order, checks, files."""

import dataclasses
from pathlib import Path

import pytest

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.unattended.calibration_graph import CALIBRATIONS, Calibration, CalibrationGraph
from diqkd_node.unattended.state import Memory
from diqkd_postproc.protocol.errors import ParameterError
from tests.support.paths import ROOT


def calibration(name="a", **fields):
    return Calibration(**({"name": name, "file": "a.py", "max_age_s": 60.0} | fields))


def test_each_calibration_comes_after_those_it_depends_on():
    graph = CalibrationGraph(
        [calibration("c", depends_on=("b", "a")), calibration("b", depends_on=("a",)), calibration("a")]
    )
    assert graph.names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("calibrations", "message"),
    [
        ([calibration(), calibration()], "same name"),
        ([calibration(depends_on=("b",))], "not declared"),
        ([calibration("a", depends_on=("b",)), calibration("b", depends_on=("a",))], "depend on each other"),
        ([calibration("a", joint=True), calibration("b", depends_on=("a",))], "must be joint"),
    ],
)
def test_graphs_that_make_no_sense_are_refused(calibrations, message):
    with pytest.raises(ParameterError, match=message):
        CalibrationGraph(calibrations)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_age_s": 0.0}, "positive"),
        ({"watches": ("chsh_score",)}, "chsh_score.*herald_rate"),
        ({"watches": ("qber",)}, "qber"),
        ({"after": ("lunch",)}, "lunch"),
        ({"roles": ("eve",)}, "eve"),
        ({"roles": ("bob",), "joint": True}, "both roles"),
        ({"tolerances": {"frequency_687": 1.0}}, "frequency_687"),
        ({"name": "a,b"}, "letters"),
    ],
)
def test_a_calibration_names_what_is_wrong_with_it(fields, message):
    with pytest.raises(ParameterError, match=message):
        calibration(**fields)


def test_a_change_counts_beyond_its_tolerance():
    before = NodeConfiguration(role="bob")
    phases = before.analysis.pattern_phase_turns
    after = before.with_fields(
        {
            "analysis.frequency_qubit": before.analysis.frequency_of("qubit") + 1500.0,
            "analysis.pi_time_qubit": before.analysis.pi_time_qubit * 1.001,
            "analysis.pattern_phase_turns": (*phases[:3], phases[3] + 0.03),
        }
    )
    graph = CalibrationGraph.load("")
    by_old_name = calibration(tolerances={"pattern_phase_turns": 0.02})
    moved = graph["frequency_qubit"].moved(before, after)
    assert moved == pytest.approx({"analysis.frequency_qubit": 1500.0})
    assert graph["pi_time_qubit"].moved(before, after) == {}
    moved = by_old_name.moved(before, after)
    assert moved == pytest.approx({"analysis.pattern_phase_turns": 0.03})


def test_a_graph_survives_its_file(tmp_path: Path):
    graph = CalibrationGraph(CALIBRATIONS)
    path = tmp_path / "calibrations.json"
    path.write_text(graph.to_json())
    loaded = CalibrationGraph.load(path)
    assert loaded.digest == graph.digest and loaded.names == graph.names
    other = CalibrationGraph([dataclasses.replace(graph["pi_time_map"], depends_on=(), max_age_s=1.0)])
    assert other.digest != graph.digest


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "a"}]', '[{"name": "a", "colour": 1}]'])
def test_a_file_that_is_no_graph_is_named(tmp_path: Path, text):
    path = tmp_path / "calibrations.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match="not a list of calibrations"):
        CalibrationGraph.load(path)
    with pytest.raises(ParameterError, match="cannot read"):
        CalibrationGraph.load(tmp_path / "none.json")


def test_a_memory_survives_its_file_and_names_a_damaged_one(tmp_path: Path):
    path = tmp_path / "memory.json"
    assert Memory.load(path) == Memory()
    memory = Memory(pauses=3, rounds=7)
    memory.of("pi_time").done_s = 12.5
    memory.save(path)
    assert Memory.load(path) == memory
    for text in ("", "[]", '{"version": 2}', '{"version": 1, "calibrations": {"a": {"b": 1}}}'):
        path.write_text(text)
        with pytest.raises(ParameterError, match=r"memory\.json.*remove it"):
            Memory.load(path)


def test_the_shipped_calibrations_are_experiments_with_these_arguments():
    """Each file is there, and takes what the graph and the lab day give it."""
    repository = ROOT / "repository"
    base = (ROOT / "diqkd_node" / "calibration" / "experiment.py").read_text(encoding="utf-8")
    for item in CALIBRATIONS:
        text = base + (repository / item.file).read_text(encoding="utf-8")
        assert all(f'"{name}"' in text for name in item.arguments), item.name
