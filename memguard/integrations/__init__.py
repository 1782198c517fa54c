"""Doors to what memguard knows of other libraries.

Comes in: ``from memguard.integrations.autofeat import AutoFeatProcessor``. Goes out: the name, from
`memguard_integrations`, or an `ImportError` that names the extra to install. Nothing is built here.
"""
