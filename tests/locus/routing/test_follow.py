"""A program that takes up one snapshot after another holds one of them."""

import weakref
from pathlib import Path

import pytest
from serving import wait_for
from small_map import publish_small

from locus.routing.serving.follow import Follower
from locus.snapshots import Snapshot, make_current


@pytest.mark.slow
def test_what_a_replaced_snapshot_took_is_given_back(tmp_path: Path) -> None:
    kept = [publish_small(tmp_path), publish_small(tmp_path, each=5)]
    follower = Follower(tmp_path, look_s=0.05)
    follower.start()

    def taken_up(snapshot: Snapshot) -> "weakref.ref[object]":
        """Its sentence encoder, which is most of it."""
        make_current(tmp_path, snapshot)
        now = wait_for(
            lambda: (
                (found := follower.serving) and found.snapshot_id == snapshot.snapshot_id and found
            )
        )
        return weakref.ref(now.router._encoder._model)

    try:
        taken_up(kept[0])  # the first stays: what it is made of is not searched for garbage
        encoder = taken_up(kept[1])
        taken_up(kept[0])
        wait_for(lambda: encoder() is None)
    finally:
        follower.close()
