"""Post-processing between the two parties: a sans-IO engine and its transports.

`messages` and `framing` are the wire; `states` the two state machines as tables; `engine` walks them and
touches neither sockets nor secrets; `computation` holds the secrets and the numerics; `journal` makes a
session survive a crash; `continuity` notices restored old copies; `driver`, `transport`, `exchange` and `run`
put them together over TCP and over files that are carried by hand.

A whole session between two parties is an example of docs/library.md. The engine alone needs neither files
nor sockets:

>>> from diqkd_postproc.session.states import TABLES, State
>>> [kind.name for kind in TABLES["alice"][State.AWAITING_DECISION].receives]
['DECISION']
"""

from diqkd_postproc.session.engine import PeerUnavailable
from diqkd_postproc.session.exchange import ExchangePending
from diqkd_postproc.session.run import SessionResult, run_exchange, run_session

__all__ = ["ExchangePending", "PeerUnavailable", "SessionResult", "run_exchange", "run_session"]
