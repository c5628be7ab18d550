"""The warm server: runs the very commands of the plugins for the launcher, without their startup time."""
