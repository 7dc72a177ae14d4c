"""Key delivery to applications, as ETSI GS QKD 014 v1.1.1 specifies it: one service at each node.

Terms of the standard: an SAE (secure application entity) is a client; a KME (key management entity) is this
service; the SAE that requests new keys is the master, the one that fetches the same keys by their ids at the
other KME is the slave.

    SAE --TLS--> key_delivery_api -> key_pool -> key_halves -> key store

The services of the two nodes need no connection: each issues from its own half of the keys, and a key_ID says
which bits it stands for, under a one-time tag (`key_ids`).

An application fetches keys with any client of the standard, or with ours:

>>> from diqkd_postproc.delivery.client import SaeClient, SaeProfile
>>> client = SaeClient(SaeProfile.load(Path("sae.toml")))  # doctest: +SKIP
>>> (key,) = client.new_keys("the slave's SAE ID", number=1, size=256)  # doctest: +SKIP
>>> from diqkd_postproc.delivery.data_formats import parse_key_request
>>> parse_key_request(b'{"number": 2, "size": 256}').size
256
"""
