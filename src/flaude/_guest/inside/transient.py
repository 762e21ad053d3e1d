"""Which failures of npm and git are the network's or a service's, and may be gone a moment later. Pure."""

from __future__ import annotations

import random
import re

PAUSES_S = (2.0, 6.0)
"""Seconds before the second and the third try."""

# npm prints `npm error code E503`, before its version 10 `npm ERR! code E503`.
_NPM_CODE = re.compile(r"^npm (?:error|ERR!) code (\S+)", re.MULTILINE)
_NPM_TRANSIENT = re.compile(
    r"EAI_AGAIN|ENOTFOUND|ETIMEDOUT|ESOCKETTIMEDOUT|EIDLETIMEOUT|ERR_SOCKET_TIMEOUT|ECONNRESET|ECONNREFUSED"
    r"|ECONNABORTED|EHOSTUNREACH|ENETUNREACH|ENETDOWN|EPIPE|EPROTO|ERR_STREAM_PREMATURE_CLOSE|FETCH_ERROR"
    r"|EINTEGRITY"  # half of a download has the wrong checksum
    r"|E408|E429|E5\d\d"
)

_GIT_FOR_GOOD = re.compile(
    r"returned error: 4(?!08|29)\d\d|HTTP 4(?!08|29)\d\d|Authentication failed|could not read (?:Username|Password)"
    r"|Permission denied|repository .* not found|Host key verification failed|No space left on device"
    r"|Clone succeeded, but checkout failed|not our ref|unadvertised object",
    re.IGNORECASE,
)
_GIT_TRANSIENT = re.compile(
    r"could not resolve (?:host|proxy)|temporary failure in name resolution"
    r"|connection (?:was )?(?:reset|refused|timed out|closed by)|operation timed out|operation too slow"
    r"|failed to connect to|couldn't connect to server|could not connect to server"
    r"|network is unreachable|no route to host|empty reply from server"
    r"|early EOF|unexpected disconnect|the remote end hung up unexpectedly|transfer closed with outstanding"
    r"|returned error: (?:408|429|5\d\d)|HTTP (?:408|429|5\d\d)|HTTP/2 stream \d+ was not closed cleanly"
    r"|RPC failed; curl (?:6|7|16|18|28|35|52|55|56|92)\b"
    r"|gnutls_handshake\(\) failed|GnuTLS recv error|SSL_ERROR_SYSCALL|SSL_read|TLS connection was non-properly",
    re.IGNORECASE,
)


def npm_failure(told: str) -> bool:
    """Whether npm's errors are of that kind, by their codes; errors without a code, or with another one, are not."""
    codes = _NPM_CODE.findall(told)
    return bool(codes) and all(_NPM_TRANSIENT.fullmatch(code) for code in codes)


def git_failure(told: str) -> bool:
    """Whether git's errors are of that kind, by its words and curl's: it has no codes."""
    return bool(_GIT_TRANSIENT.search(told)) and not _GIT_FOR_GOOD.search(told)


def pause_s(failures: int) -> float:
    """Seconds to wait after so many failures: machines that begin together do not come back together."""
    return PAUSES_S[failures - 1] * random.uniform(0.75, 1.25)  # noqa: S311  # spreads tries, guards nothing
