"""Certificates and a private folder, as the tests of the delivery service have them."""

from tests.diqkd_postproc.delivery.conftest import certificates, folder

__all__ = ["certificates", "folder"]
