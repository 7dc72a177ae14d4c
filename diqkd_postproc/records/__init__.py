"""Private storage of a node: random settings, crash-safe round spool, sealed record."""
