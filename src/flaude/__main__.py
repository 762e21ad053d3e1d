"""`python -m flaude`."""

from flaude.cli import main

main()
