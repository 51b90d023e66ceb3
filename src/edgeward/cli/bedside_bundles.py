"""A single bed's own bundles, put together from its settings."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.bedside.device import yield_to_stream
from edgeward.cli.say import say
from edgeward.cli.settings import zone_of
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.own_bundles import OwnBundles
    from edgeward.cli.settings import BedsideSettings
    from edgeward.kernel.clock import Clock
    from edgeward.trust.fetch import TrustClient


@contextlib.contextmanager
def own_bundles(settings: BedsideSettings, clock: Clock) -> Iterator[OwnBundles]:
    """The bed's slots; where they are empty and a repository is named, its first bundle is awaited.

    Raises ``ConfigError`` (``root-unreadable``, and what opening slots raises) now rather than behind a stream.
    """
    from edgeward.bedside.model import try_bundle
    from edgeward.bedside.own_bundles import OwnBundles
    from edgeward.bedside.updating.local import update_now

    client = _client(settings)
    with OwnBundles(settings.state_dir / "slots", settings.bundle, say, clock) as bundles:
        slots = bundles.slots(settings.bundle)
        if client is not None and slots.active() is None:
            outcome = update_now(client, slots, settings.bundle, lambda path: try_bundle(path, settings.threads), clock)
            say(f"update: {outcome.told}")
        yield bundles


@contextlib.contextmanager
def updating(settings: BedsideSettings, bundles: OwnBundles, clock: Clock) -> Iterator[None]:
    """Take new bundles behind the stream while the block runs, as the repository names them."""
    from edgeward.bedside.model import try_bundle
    from edgeward.bedside.updating.families import Families

    client = _client(settings)
    if client is None:
        yield
        return
    updates = settings.updates
    families = Families(
        bundles,
        client,
        clock,
        updates.rules(zone_of(updates.zone, "updates")),
        lambda _task: lambda path: try_bundle(path, settings.threads),
        say=say,
        dice=random.random,
        own=updates.own_orders(),
        settle=yield_to_stream,
    )
    families.begin()
    try:
        yield
    finally:
        families.close()


def _client(settings: BedsideSettings) -> TrustClient | None:
    from edgeward.trust.fetch import TrustClient

    if not settings.repository:
        return None
    try:
        root = Path(settings.trusted_root).read_bytes()
    except OSError as error:
        raise ConfigError("root-unreadable", f"cannot read {settings.trusted_root}: {error.strerror}") from error
    return TrustClient(settings.repository, settings.state_dir / "trust", root=root)
