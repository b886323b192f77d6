"""The quarantine: copies of purged objects, their manifests, and the way back.

In: objects a purge copied below `.r2maint/`. Out: manifests that say where each copy came from, and
`restore`, which proves a copy whole before it puts it back under its key and never overwrites.
"""

from r2maint.quarantine.manifest import Manifest, Quarantined, restore, write_manifest

__all__ = ["Manifest", "Quarantined", "restore", "write_manifest"]
