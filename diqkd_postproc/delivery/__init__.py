"""Key delivery to applications, as ETSI GS QKD 014 v1.1.1 specifies it: one service at each node.

Terms of the standard: an SAE (secure application entity) is a client; a KME (key management entity) is this
service; the SAE that asks for new keys is the master, the one that fetches the same keys by their ids at the
other KME is the slave.

    SAE --TLS--> key_delivery_api -> key_pool -> key store
                                        |
                                     kme_link <--TLS, one-time tags--> kme_link of the other node
"""
