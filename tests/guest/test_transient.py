"""Which failures of npm and git are worth another try, by their own words."""

from __future__ import annotations

import pytest

from flaude._guest.inside.transient import git_failure, npm_failure

# Printed by npm 11.19 and git 2.39 on a computer without a way to the server, or with a server that answers so.
NPM = {
    "npm error code EAI_AGAIN\nnpm error syscall getaddrinfo": True,
    "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error errno ENOTFOUND": True,
    "npm ERR! code ETIMEDOUT\nnpm ERR! errno ETIMEDOUT": True,
    "npm error code ECONNRESET\nnpm error network request to http://127.0.0.1/x failed, reason: socket hang up": True,
    "npm error code ECONNREFUSED\nnpm error FetchError: request to http://127.0.0.1:9/x failed": True,
    "npm error code E503\nnpm error 503 Service Unavailable - GET http://127.0.0.1/x": True,
    "npm error code E429\nnpm error 429 Too Many Requests - GET http://127.0.0.1/x": True,
    "npm warn deprecated x\nnpm error code EINTEGRITY": True,
    "npm error code E404\nnpm error 404 Not Found - GET http://127.0.0.1/x": False,
    "npm error code E401\nnpm error 401 Unauthorized - GET http://127.0.0.1/x": False,
    "npm error code E403\nnpm error 403 Forbidden": False,
    "npm error code ETARGET\nnpm error notarget No matching version found for x@1.2.3.": False,
    "npm error code ENOSPC\nnpm error nospc There appears to be insufficient space": False,
    "npm error code 1\nnpm error path /x\nnpm error command failed: node install.cjs: ECONNRESET": False,
    "npm: No such file or directory": False,
    "": False,
}
GIT = {
    "fatal: unable to access 'http://x/': Could not resolve host: no-such-host.invalid": True,
    "ssh: Could not resolve hostname x: Name or service not known\nfatal: Could not read from remote repository.": True,
    "fatal: unable to access 'http://x/': Failed to connect to 127.0.0.1 port 9 after 0 ms: "
    "Couldn't connect to server": True,
    "fatal: unable to connect to 127.0.0.1:\n127.0.0.1[0: 127.0.0.1]: errno=Connection refused": True,
    "fatal: unable to access 'http://x/': Empty reply from server": True,
    "fatal: unable to access 'http://x/': The requested URL returned error: 503": True,
    "fatal: unable to access 'http://x/': The requested URL returned error: 429": True,
    "fatal: unable to access 'https://x/': Recv failure: Connection reset by peer": True,
    "error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.\nfetch-pack: unexpected "
    "disconnect while reading sideband packet\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output": True,
    "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: the remote end hung up "
    "unexpectedly": True,
    "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403\nfatal: the remote end hung up "
    "unexpectedly": False,
    "fatal: repository 'http://x/y/' not found": False,
    "fatal: remote error: upload-pack: not our ref 0123456789\nfatal: the remote end hung up unexpectedly": False,
    "error: Server does not allow request for unadvertised object 0123\nthe remote end hung up unexpectedly": False,
    "fatal: Authentication failed for 'http://x/y/'": False,
    "fatal: could not read Username for 'http://x': terminal prompts disabled": False,
    "fatal: unable to access 'http://x/': The requested URL returned error: 403": False,
    "git@github.com: Permission denied (publickey).\nfatal: Could not read from remote repository.": False,
    "fatal: Remote branch none not found in upstream origin": False,
    "fatal: '/none' does not appear to be a git repository\nfatal: Could not read from remote repository.": False,
    "fatal: write error: No space left on device\nfatal: early EOF": False,
    "": False,
}


@pytest.mark.parametrize(("told", "passes"), NPM.items())
def test_npm(told: str, passes: bool) -> None:
    """By npm's codes: names, connections and a registry that is in trouble, and nothing else."""
    assert npm_failure(told) is passes


@pytest.mark.parametrize(("told", "passes"), GIT.items())
def test_git(told: str, passes: bool) -> None:
    """By git's words and curl's: what is refused, or not there, is refused again."""
    assert git_failure(told) is passes
