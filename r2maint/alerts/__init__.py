"""Telling somebody how a run ended although nobody reads the terminal.

In: the report of a run and the sentence that stderr shows. Out: one record on the logger `r2maint`,
which Django's AdminEmailHandler, Sentry and every other handler carry on.
"""
