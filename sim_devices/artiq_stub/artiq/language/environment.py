"""Arguments, devices and datasets of an experiment, and the experiment base classes."""

import ast
from inspect import isclass

from artiq.language import units
from artiq.language.core import rpc

__all__ = [
    "BooleanValue",
    "DefaultMissing",
    "EnumerationValue",
    "EnvExperiment",
    "Experiment",
    "HasEnvironment",
    "NoDefault",
    "NumberValue",
    "PYONValue",
    "StringValue",
]


class NoDefault:
    """Stands for an absent default value."""


class DefaultMissing(Exception):
    """An argument without a default was not given."""


class _Value:
    def __init__(self, default=NoDefault):
        if default is not NoDefault:
            self.default_value = self.process(default)

    def default(self):
        if not hasattr(self, "default_value"):
            raise DefaultMissing
        return self.default_value

    def process(self, x):
        return x

    def describe(self):
        description = {"ty": type(self).__name__}
        if hasattr(self, "default_value"):
            description["default"] = self.default_value
        return description


class PYONValue(_Value):
    """Any literal."""

    def __init__(self, default=NoDefault):
        super().__init__()
        if default is not NoDefault:
            self.default_value = default

    def process(self, x):
        return ast.literal_eval(x) if isinstance(x, str) else x


class BooleanValue(_Value):
    """True or False."""

    def process(self, x):
        if type(x) is not bool:
            raise ValueError("Invalid BooleanValue value")
        return x


class StringValue(_Value):
    """A string."""


class EnumerationValue(_Value):
    """One of a list of strings."""

    def __init__(self, choices, default=NoDefault, quickstyle=False):
        self.choices = choices
        self.quickstyle = quickstyle
        super().__init__(default)

    def process(self, x):
        if x not in self.choices:
            raise ValueError("Invalid EnumerationValue value")
        return x

    def describe(self):
        return super().describe() | {"choices": self.choices, "quickstyle": self.quickstyle}


class NumberValue(_Value):
    """A number; an int if `type` says so, or if it is "auto" and precision, scale and step allow no other."""

    valid_types = ("auto", "float", "int")

    def __init__(
        self,
        default=NoDefault,
        unit="",
        *,
        scale=None,
        step=None,
        min=None,
        max=None,
        precision=2,
        type="auto",
        ndecimals=None,
    ):
        if scale is None:
            if unit and not hasattr(units, unit):
                raise KeyError(f"Unit {unit} is unknown, you must specify the scale manually")
            scale = getattr(units, unit) if unit else 1.0
        if type not in self.valid_types:
            raise TypeError("type must be 'float', 'int' or 'auto'")
        self.unit = unit
        self.scale = scale
        self.step = scale / 10.0 if step is None else step
        self.min = min
        self.max = max
        self.precision = precision if ndecimals is None else ndecimals
        self.type = type
        if type == "int" and not self._allows_int():
            raise ValueError("an int NumberValue needs precision=0, scale=1 and an integer step")
        super().__init__(default)

    def _allows_int(self):
        return self.precision == 0 and int(self.step) == self.step and self.scale == 1

    def process(self, x):
        if self.type == "int" or (self.type == "auto" and self._allows_int()):
            return int(x)
        return float(x)

    def describe(self):
        names = ("unit", "scale", "step", "min", "max", "precision", "type")
        return super().describe() | {name: getattr(self, name) for name in names}


class HasEnvironment:
    """Access to the managers of devices, datasets and arguments; shared with children."""

    def __init__(self, managers_or_parent, *args, **kwargs):
        self.children = []
        if isinstance(managers_or_parent, tuple):
            self.__managers = managers_or_parent
        else:
            parent = managers_or_parent
            self.__managers = (*parent.__managers[:3], {})
            parent.register_child(self)
        self.__in_build = True
        self.build(*args, **kwargs)
        self.__in_build = False

    def register_child(self, child):
        self.children.append(child)

    def call_child_method(self, method, *args, **kwargs):
        """Call a method of every child that has it, in the order of registration."""
        for child in self.children:
            if hasattr(child, method):
                getattr(child, method)(*args, **kwargs)

    def build(self):
        """Overridden by experiments: ask for arguments and devices here."""

    def get_argument(self, key, processor, group=None, tooltip=None):
        if not self.__in_build:
            raise TypeError("get_argument() should only be called from build()")
        return self.__managers[2].get(key, processor, group, tooltip)

    def _set_invariant(self, key, value):
        setattr(self, key, value)
        self.kernel_invariants = getattr(self, "kernel_invariants", set()) | {key}

    def setattr_argument(self, key, processor=None, group=None, tooltip=None):
        self._set_invariant(key, self.get_argument(key, processor, group, tooltip))

    def get_device_db(self):
        return self.__managers[0].get_device_db()

    def get_device(self, key):
        return self.__managers[0].get(key)

    def setattr_device(self, key):
        self._set_invariant(key, self.get_device(key))

    @rpc(flags={"async"})
    def set_dataset(
        self,
        key,
        value,
        *,
        unit=None,
        scale=None,
        precision=None,
        broadcast=False,
        persist=False,
        archive=True,
    ):
        given = {"unit": unit, "scale": scale, "precision": precision}
        metadata = {name: item for name, item in given.items() if item is not None}
        self.__managers[1].set(key, value, metadata, broadcast, persist, archive)

    @rpc(flags={"async"})
    def mutate_dataset(self, key, index, value):
        self.__managers[1].mutate(key, index, value)

    @rpc(flags={"async"})
    def append_to_dataset(self, key, value):
        self.__managers[1].append_to(key, value)

    def get_dataset(self, key, default=NoDefault, archive=True):
        try:
            return self.__managers[1].get(key, archive)
        except KeyError:
            if default is NoDefault:
                raise
            return default

    def setattr_dataset(self, key, default=NoDefault, archive=True):
        setattr(self, key, self.get_dataset(key, default, archive))

    def set_default_scheduling(self, priority=None, pipeline_name=None, flush=None):
        given = {"priority": priority, "pipeline_name": pipeline_name, "flush": flush}
        self.__managers[3].update({name: item for name, item in given.items() if item is not None})


class Experiment:
    """Base of what can be submitted: `prepare`, `run`, `analyze`."""

    def prepare(self):
        pass

    def run(self):
        raise NotImplementedError

    def analyze(self):
        pass


class EnvExperiment(Experiment, HasEnvironment):
    """An experiment with an environment; the default `prepare` prepares the children."""

    def prepare(self):
        self.call_child_method("prepare")


def is_experiment(o):
    return isclass(o) and issubclass(o, Experiment) and o not in (Experiment, EnvExperiment)


def is_public_experiment(o):
    return is_experiment(o) and not o.__name__.startswith("_")
