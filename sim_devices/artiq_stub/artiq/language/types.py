"""Names of kernel types, for annotations only: the host engine does not check them."""

__all__ = [
    "TArray",
    "TBool",
    "TByteArray",
    "TBytes",
    "TFloat",
    "TInt32",
    "TInt64",
    "TList",
    "TNone",
    "TRange32",
    "TRange64",
    "TStr",
    "TTuple",
    "TVar",
]


class _Type:
    """A kernel type; calling it gives the type with its parameters."""

    def __init__(self, name, parameters=()):
        self.name = name
        self.parameters = parameters

    def __call__(self, *parameters):
        return _Type(self.name, parameters)

    def __repr__(self):
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(map(repr, self.parameters))})"


TNone = _Type("TNone")
TBool = _Type("TBool")
TInt32 = _Type("TInt32")
TInt64 = _Type("TInt64")
TFloat = _Type("TFloat")
TStr = _Type("TStr")
TBytes = _Type("TBytes")
TByteArray = _Type("TByteArray")
TTuple = _Type("TTuple")
TList = _Type("TList")
TArray = _Type("TArray")
TRange32 = _Type("TRange32")
TRange64 = _Type("TRange64")
TVar = _Type("TVar")
