"""What the commands do, in Python: typed settings in, a typed result out, nothing printed.

Each takes a ``Progress`` that is told how it goes; ``cli/`` parses words, calls these and prints.
"""
