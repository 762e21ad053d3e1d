"""`flaude completion`: words for the shell's Tab key."""

from __future__ import annotations

from typing import Literal


async def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion script of a shell.

    Put it where the shell looks for it:

        flaude completion bash > ~/.local/share/bash-completion/completions/flaude
        flaude completion zsh > ~/.zfunc/_flaude        # a folder in your $fpath
        flaude completion fish > ~/.config/fish/completions/flaude.fish

    Parameters
    ----------
    shell
        Whose.
    """
    from flaude.cli import application  # noqa: PLC0415  # it is what imports this

    print(application().generate_completion(shell=shell))
    return 0
