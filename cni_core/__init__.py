"""What both plugins share: the protocol shell, the error tree, results, and the homes of netlink and locks.

Imports neither plugin. Nothing here is imported by this file, so that naming the package costs nothing.
"""

__version__ = "0.1.0"
