"""Commands of the program `diqkd`, one module each: its options, its call of the library, its output."""
