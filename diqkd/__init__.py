"""The command-line program `diqkd`."""
