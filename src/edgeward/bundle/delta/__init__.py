"""The delta between two bundles: what a device needs to make the new file out of the installed one."""
