"""Helper processes: started, spoken to and ended here, whatever they do.

In: the name of a module of r2maint whose `main` a helper runs, and frames of plain data. Out: the
frames it answers, of bounded size, or `HelperFailed`. A helper is a new interpreter that imports
neither Django nor the project's main module, and ends with its parent.
"""

from r2maint.processes.frames import Frame, FrameError
from r2maint.processes.helper import NO_MEMORY, Failing, Helper, HelperFailed, find_python

__all__ = ["NO_MEMORY", "Failing", "Frame", "FrameError", "Helper", "HelperFailed", "find_python"]
