# An image with Claude Code, git, gh and python3 baked in: machines start without installing anything.
#   docker build -t registry.fly.io/my-app:claude .
#   fly auth docker && docker push registry.fly.io/my-app:claude
# and then MachineConfig(image="registry.fly.io/my-app:claude", ...).
FROM node:22-bookworm-slim

# The version that flaude is tested with; `latest` has named one that could not be installed.
ARG CLAUDE_CODE_VERSION=2.1.197

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl git gh jq openssh-client python3 ripgrep \
    && rm -rf /var/lib/apt/lists/*

RUN npm install --global --no-fund --no-audit "@anthropic-ai/claude-code@${CLAUDE_CODE_VERSION}" \
    && npm cache clean --force \
    && claude --version

# The supervisor runs as root and starts the agent as this user.
RUN useradd --create-home --shell /bin/bash claude
