"""Waits for the guest where Fly does not take it with a machine's config: it comes in parts and takes our place."""

import base64, hashlib, os, sys, time  # noqa: E401, I001

me, words = os.path.abspath(sys.argv[0]), sys.argv[1:]
parts = me + ".parts"
if not words:
    first, wait = os.stat(me).st_ino, float(os.environ.get("FLAUDE_START_DEADLINE_S") or 300)
    until = time.time() + wait
    while os.stat(me).st_ino == first:
        try:
            until = max(until, os.stat(parts).st_mtime + wait)
        except OSError:
            pass
        if time.time() > until:
            sys.exit(0)
        time.sleep(0.1)
    os.execv(sys.executable, [sys.executable, "-I", "-S", me])
have = os.path.getsize(parts) if os.path.exists(parts) else 0
if words[0] == "part" and int(words[1]) == have:
    with open(parts, "ab") as file:
        have += file.write(words[2].encode())
if words[0] == "join" and have:
    data = base64.b64decode(open(parts, "rb").read())
    if hashlib.sha256(data).hexdigest() == words[1]:
        open(parts, "wb").write(data)
        os.replace(parts, me)
        have = -1
    else:
        os.remove(parts)
        have = 0
print('{"guest_bytes": %d}' % have)
