"""From end to end: real runtimes on a node, and nodes that start again or share a trunk."""
