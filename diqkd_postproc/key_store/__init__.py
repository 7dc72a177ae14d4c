"""The ledger of shared secret bits: segments of K0, pads consumed, keys generated.

K0 = extractor_seed | hash_seed | pad_ec | pad_a | pad_b | pad_f (SI S4) | node_link. Seeds are reusable,
because the extractor is strong and every hash is encrypted; a pad encrypts one message, once (`segments`);
node_link authenticates the nodes' connection (`initial_key`). After
`activate` the pads are zeros and K1 = K0 without the pads | generated key. The generated key leaves in
pieces, each once (`pieces`), and pays for the pads of the next session (`KeyStore.renew`).

>>> import os, tempfile
>>> from pathlib import Path
>>> from diqkd_postproc.protocol.parameters import KEYLESS, ProtocolParameters
>>> parameters = ProtocolParameters(num_rounds=1000, test_numerator=1, test_bits=1, **KEYLESS)
>>> folder = Path(tempfile.mkdtemp())
>>> alice, bob = KeyStore.create_pair(
...     folder / "alice", folder / "bob", parameters, os.urandom, witness_folder=folder / "epochs"
... )
>>> pads = [store.consume(name, "a session", b"a message") for store in (alice, bob) for name in PAD_NAMES]
>>> for store in (alice, bob):
...     store.activate("a session", [0, 1] * 5000)
>>> ((session, first_bit, end),) = alice.generated.free_ranges()
>>> with alice.generated.change(), bob.generated.change():  # once, on each side
...     keys = [store.generated.take(session, first_bit, 256) for store in (alice, bob)]
>>> keys[0].tolist() == keys[1].tolist()
True
>>> alice.close(), bob.close()
(None, None)

One private SQLite file a party, encrypted if the owner wants (`encryption`); several processes may hold it
open. `epoch` counts the changes, so that a restored backup shows (`epoch_witness`). What this cannot promise
is in docs/key_store.md.
"""

from diqkd_postproc.key_store.credentials import (
    Credential,
    KeyFile,
    Passphrase,
    PassphraseFile,
    PassphrasePrompt,
)
from diqkd_postproc.key_store.encryption import LockedStoreError, WrongCredentialError
from diqkd_postproc.key_store.errors import KeyReuseError, UnknownPieceError
from diqkd_postproc.key_store.initial_key import PAD_BITS, PAD_NAMES, SEED_NAMES, SEGMENT_NAMES, segment_sizes
from diqkd_postproc.key_store.piece import (
    AVAILABLE,
    DELIVERED,
    DELIVERY,
    DELIVERY_SEED_BITS,
    PAD_SET_BITS,
    PAD_SETS,
    RESERVED,
    HeldKey,
    Piece,
    delivery_halves,
)
from diqkd_postproc.key_store.pieces import GeneratedKeys
from diqkd_postproc.key_store.segments import RELEASED, SPENT, UNUSED
from diqkd_postproc.key_store.store import KeyStore

__all__ = [
    "AVAILABLE",
    "DELIVERED",
    "DELIVERY",
    "DELIVERY_SEED_BITS",
    "PAD_BITS",
    "PAD_NAMES",
    "PAD_SETS",
    "PAD_SET_BITS",
    "RELEASED",
    "RESERVED",
    "SEED_NAMES",
    "SEGMENT_NAMES",
    "SPENT",
    "UNUSED",
    "Credential",
    "GeneratedKeys",
    "HeldKey",
    "KeyFile",
    "KeyReuseError",
    "KeyStore",
    "LockedStoreError",
    "Passphrase",
    "PassphraseFile",
    "PassphrasePrompt",
    "Piece",
    "UnknownPieceError",
    "WrongCredentialError",
    "delivery_halves",
    "segment_sizes",
]
