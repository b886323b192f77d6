"""Objects kept because another one is: renditions by the patterns of DERIVED, kin by their place.

In: an unnamed key, and a way to ask which keys are named. Out: whether it is a rendition, and of
which keys it may be a variant.
"""

from r2maint.purge.variants.kin import kin_starts
from r2maint.purge.variants.renditions import Derivations

__all__ = ["Derivations", "kin_starts"]
