# An image with Claude Code, git, gh and python3 in it: machines start without installing anything.
#
#   docker build --platform linux/amd64 -t registry.fly.io/my-app:claude .
#   fly auth docker && docker push registry.fly.io/my-app:claude
#
# `fly auth docker` comes right before the push: its credentials last minutes. Then name the image by the digest that
# the push has printed: `image: registry.fly.io/my-app@sha256:...`; docs/fly.md says why.
#
# Fly's machines are linux/amd64, whatever computer builds this.
FROM --platform=linux/amd64 node:22-bookworm-slim

# The version that flaude is tested with; `latest` has named one that could not be installed.
ARG CLAUDE_CODE_VERSION=2.1.197

# flaude's own part of a machine needs python3 3.9 or newer, and git.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl git gh jq openssh-client python3 ripgrep \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' \
    && git --version

# npm may exit 0 and leave a stub behind that is no Claude Code: it has to answer.
RUN npm install --global --no-fund --no-audit "@anthropic-ai/claude-code@${CLAUDE_CODE_VERSION}" \
    && npm cache clean --force \
    && claude --version

# The supervisor runs as root and starts the agent as this user. So there is no USER line here.
RUN useradd --create-home --shell /bin/bash claude
