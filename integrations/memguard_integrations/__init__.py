"""What memguard knows about other libraries, one folder each.

Comes in: a library's own objects and files. Goes out: guarded jobs over them. Nothing here is imported by
``import memguard``; the doors are in `memguard.integrations`. Read a folder's ``__init__.py`` first.
"""
