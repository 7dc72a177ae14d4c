"""Private storage of a node: random settings, crash-safe round spool, sealed record.

>>> import os, tempfile
>>> from pathlib import Path
>>> from diqkd_postproc.link.characterisation import characterisation_parameters
>>> from diqkd_postproc.records.round_spool import RoundSpool
>>> folder = Path(tempfile.mkdtemp())
>>> parameters = characterisation_parameters(num_rounds=100, test_probability=0.5)
>>> with RoundSpool.create(folder / "spool.sqlite", "alice", parameters, {}, run_id="ab" * 16) as spool:
...     spool.fill_pool(os.urandom, num_bytes=100)
...     draws = spool.begin_batch(10)
>>> draws.settings.shape, draws.settings.dtype
((10,), dtype('uint8'))
"""
