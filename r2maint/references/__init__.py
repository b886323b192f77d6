"""What rows say of media, and how a value is exchanged: the only code that writes users' rows."""

from r2maint.references.discover import Column, Scope, discover
from r2maint.references.read_rows import Reference, Shape, iter_references

__all__ = ["Column", "Reference", "Scope", "Shape", "discover", "iter_references"]
