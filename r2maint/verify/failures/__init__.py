"""What earlier runs saw: since when a reference fails, and what recovered.

In: the outcomes of this run. Out: which are new, confirmed or recovered; one row of `Health` each.
"""
