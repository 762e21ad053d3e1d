"""Machines that are simulated: no process, nothing on the disk, and the protocol of flaude's guest all the same.

What the real one does is copied here and not imported: the stand-in knows nothing of flaude, and a test holds the
two against each other. Timing is the guest's too: how long it takes to answer at first, how long a pull waits and
settles, and the clocks that end a machine.
"""

from flaude.local.simulated.box import SimulatedBox

__all__ = ["SimulatedBox"]
