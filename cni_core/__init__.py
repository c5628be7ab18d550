"""The code that both plugins share: the protocol shell, the error tree, results, state files and locks.

It imports neither plugin. This file imports nothing, so that naming the package costs nothing.
"""

__version__ = "0.1.0"
