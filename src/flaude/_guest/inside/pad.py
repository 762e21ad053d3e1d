"""The pad: what hides the run's secrets on their way, so that no single record tells them.

A machine's config has the pad, the call that hands over the job has the secrets under it, and either alone is noise.
Both sides of the link use this module.
"""

from __future__ import annotations

import hashlib
import hmac

PAD_BYTES = 32
NONCE_BYTES = 16


def masked(data: bytes, pad: bytes, nonce: bytes) -> bytes:
    """`data` XOR a keystream of pad and nonce; done twice, it is `data` again.

    The keystream is HMAC-SHA256 of a counter. A nonce is for one message only: two messages under one keystream would
    tell their difference.
    """
    blocks = (len(data) + hashlib.sha256().digest_size - 1) // hashlib.sha256().digest_size
    stream = b"".join(hmac.digest(pad, nonce + count.to_bytes(8, "big"), "sha256") for count in range(blocks))
    return bytes(one ^ other for one, other in zip(data, stream))  # strict= came with Python 3.10
