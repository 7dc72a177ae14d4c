"""Commands of the program `diqkd`, one module each: its options, its call of the library, its output.

Each module has `add_arguments(parser)`, called by `diqkd.cli`, and one handler for every action. A handler
prints its result, or with `--json` one JSON object on stdout; a DiqkdError that it raises becomes the
message and the exit code.
"""
