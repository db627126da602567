"""The Hugging Face hub: what is new there, what may be taken, and as which entry of `models.yaml`.

Everything that comes from the hub is a stranger's: names are checked before they are used, a model
is pinned to a commit, and only safetensors weights without code of their own are taken. Nothing is
written here except a commit in `models.yaml` (`locus.hub.revise`); filing and announcing is the
caller's. docs/watching.md explains the settings to users.

Only the settings are imported here: every command reads them, and the hub's client takes a while.
"""

from locus.hub.settings import WatchSettings, WebhookSettings

__all__ = ["WatchSettings", "WebhookSettings"]
