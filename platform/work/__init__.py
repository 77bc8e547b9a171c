"""Work items as pure functions, and the workbench that they use on one device."""
