"""Snapshots: built beside the old one, sealed by a manifest, checked, switched by one rename."""
