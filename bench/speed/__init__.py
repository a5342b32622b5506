"""How fast the search is beside other ways to write it, and beside what the machine can do."""
