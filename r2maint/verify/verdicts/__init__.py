"""What an answer means: by the listing, by the headers of a response, by the bytes themselves.

In: a reference or question, and what came. Out: an `Outcome` with a detail and an advice. Pure.
"""
