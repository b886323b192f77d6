"""Removing what nothing names: the plan and its brakes, quarantine, deletion, and the way back."""
