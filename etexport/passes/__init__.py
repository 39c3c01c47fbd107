"""Board-neutral passes, Program -> Program, in numpy: `pipeline.run` before a `.pte` is written and again after one is
read."""
