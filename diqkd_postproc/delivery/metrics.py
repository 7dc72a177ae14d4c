"""Counters of the service as OpenMetrics text 1.0, for Prometheus and the like: sums, no id and no bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Metrics:
    """What the service has done since it was started."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._keys: Counter[str] = Counter()
        self._num_connections: Callable[[], int] = int
        self._num_refusals: Callable[[], int] = int

    def watch(self, num_connections: Callable[[], int], num_refusals: Callable[[], int]) -> None:
        """Where to read the number of open connections and of logged refusals."""
        self._num_connections, self._num_refusals = num_connections, num_refusals

    def count(self, method: str, status: int, num_keys: int) -> None:
        """Note an answer to a request and the keys that it holds."""
        self._requests[method, status] += 1
        self._keys[method] += num_keys

    def text(self, free_bits: int) -> bytes:
        """The exposition. free_bits: left in the half that this KME issues from."""
        lines = [
            *_head("requests", "counter", "Answers by method and HTTP status."),
            *(
                f'diqkd_delivery_requests_total{{method="{method}",status="{status}"}} {number}'
                for (method, status), number in sorted(self._requests.items())
            ),
            *_head("keys", "counter", "Keys in answers, by method."),
            *(
                f'diqkd_delivery_keys_total{{method="{method}"}} {number}'
                for method, number in sorted(self._keys.items())
            ),
            *_head("refusals", "counter", "Refused handshakes, connections and requests."),
            f"diqkd_delivery_refusals_total {self._num_refusals()}",
            *_head("connections", "gauge", "Open connections of clients with a certificate."),
            f"diqkd_delivery_connections {self._num_connections()}",
            *_head("free_bits", "gauge", "Bits that this node can still issue keys and tags from."),
            f"diqkd_delivery_free_bits {free_bits}",
            "# EOF",
        ]
        return ("\n".join(lines) + "\n").encode()


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# TYPE diqkd_delivery_{name} {kind}", f"# HELP diqkd_delivery_{name} {text}"
