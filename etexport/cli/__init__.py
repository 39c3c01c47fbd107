"""The verbs of the command line: `add_arguments(parser)` and `main(args)` in one file each. They parse, call a room,
and print."""
