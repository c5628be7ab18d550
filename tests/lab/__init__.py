"""Lab nodes: where everything that touches links is run.

`python -m tests.lab -- COMMAND` runs a command as root on a node, with the project
installed as a cluster would have it, and passes its output and exit status through. A node is either this
machine, in throw-away namespaces, if its kernel has all link kinds, or a virtual machine with Debian's own
kernel.
"""
