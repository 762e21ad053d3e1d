"""Claude Code: its command line, its output, its limits."""
