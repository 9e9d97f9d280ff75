"""Completion in bash, zsh and fish: of commands, options and their values.

A shell runs `vaectl` at each press of Tab, so an answer may not take longer than a person notices.
Building the commands takes Typer 0.15 seconds and the schema half a second; so both are looked up
in a file of the cache directory (`vaectl.completion.words`), which is made anew when a file of
vaectl or an installed package changes. What can change at any time is looked up each time
(`vaectl.completion.places`): runs, checkpoints, configurations. Typer makes the shells' scripts, by
`vaectl --install-completion`, and this package answers them (`vaectl.completion.shells`).

No module here may import Typer, pydantic or NumPy at its top, and no file of `--plugin` is run.
"""

import sys


def answer(instruction: str) -> int:
    """Print what a shell's script asks for; return the exit code. Errors are no candidates.

    Args:
        instruction: the script's own, such as `complete_bash`.
    """
    from vaectl.completion import candidates, shells, words

    try:
        shell = shells.SHELLS[instruction.removeprefix("complete_")]
        before, word = shell.typed()
        found = candidates.find(words.known(), before, word)
        text, code = shell.told(found)
        sys.stdout.write(text)
    except Exception:  # a message would be taken for candidates, or break the line that is edited
        return 1
    return code
