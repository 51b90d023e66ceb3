"""A single bed's own bundles, put together from its settings."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from edgeward.bedside.device import yield_to_stream
from edgeward.cli.repository import trust_client
from edgeward.cli.say import say
from edgeward.cli.settings import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.own_bundles import OwnBundles
    from edgeward.cli.settings import BedsideSettings
    from edgeward.kernel.clock import Clock
    from edgeward.trust.fetch import TrustClient


def client_of(settings: BedsideSettings) -> TrustClient | None:
    """The client of the bed's repository; None without one.

    Raises ``ConfigError`` (``root-unreadable``) now rather than behind a stream.
    """
    if not settings.repository:
        return None
    return trust_client(settings.repository, settings.trusted_root, settings.state_dir / "trust")


@contextlib.contextmanager
def own_bundles(settings: BedsideSettings, client: TrustClient | None, clock: Clock) -> Iterator[OwnBundles]:
    """The bed's slots; where they are empty and there is a repository, its first bundle is awaited.

    Raises what opening slots does.
    """
    from edgeward.bedside.model import try_bundle
    from edgeward.bedside.own_bundles import OwnBundles
    from edgeward.bedside.updating.local import update_now

    with OwnBundles(settings.state_dir / "slots", settings.bundle, say, clock) as bundles:
        slots = bundles.slots(settings.bundle)
        if client is not None and slots.active() is None:
            outcome = update_now(client, slots, settings.bundle, lambda path: try_bundle(path, settings.threads), clock)
            say(f"update: {outcome.told}")
        yield bundles


@contextlib.contextmanager
def updating(
    settings: BedsideSettings, client: TrustClient | None, bundles: OwnBundles, clock: Clock
) -> Iterator[None]:
    """Take new bundles behind the stream while the block runs, as the repository names them."""
    from edgeward.bedside.model import try_bundle
    from edgeward.bedside.updating.families import Families

    if client is None:
        yield
        return
    updates = settings.updates
    families = Families(
        bundles,
        client,
        clock,
        updates.rules(zone_of(updates.zone, "updates"), settings.dwell_s),
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
