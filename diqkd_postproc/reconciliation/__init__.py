"""Error correction by a linear code's syndrome: construction, encoding, decoding."""
