"""Asking public URLs and reading stored objects, in processes of their own where that pays.

In: questions (a URL and what is expected there). Out: a verdict for each, tempered by how its host
answers others. Knows no rows; `prober` and what it imports load no Django.
"""
