"""One file a tool that writes flash: `TOOL`, called by the name that the board's file lists in `attach.flash`."""
