"""A ward's updates, put together from its settings: updaters, and the link to its fleet where it has one."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.cli.repository import trust_client
from edgeward.cli.say import say
from edgeward.cli.settings import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.fleet_link.settings import LinkSettings
    from edgeward.bedside.updating.families import Families
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.cli.ward_settings import WardSettings
    from edgeward.kernel.clock import Clock


@contextlib.contextmanager
def updating(settings: WardSettings, bundles: WardBundles, clock: Clock) -> Iterator[None]:
    """Take new bundles while the block runs: as the fleet orders, or without one as the repository names them.

    Raises ``ConfigError`` for files that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        families = _families(settings, bundles)
        stack.callback(families.close)
        if settings.fleet is None:
            families.begin()
        else:
            stack.enter_context(_fleet_link(settings, settings.fleet, families, clock))
        yield


def _families(settings: WardSettings, bundles: WardBundles) -> Families:
    link, updates = settings.fleet, settings.updates
    ca = link.ca if link is not None and settings.repository.startswith(link.url.rstrip("/")) else ""
    client = trust_client(settings.repository, settings.trusted_root, settings.state_dir / "trust", ca)
    rules = updates.rules(zone_of(updates.zone, "updates"), settings.dwell_s)
    own = updates.own_orders() if link is None else None
    return bundles.families(client, rules, dice=random.random, own=own)


@contextlib.contextmanager
def _fleet_link(settings: WardSettings, link: LinkSettings, families: Families, clock: Clock) -> Iterator[None]:
    from edgeward.bedside.fleet_link.agent import FleetAgent
    from edgeward.bedside.fleet_link.core import Policy
    from edgeward.bedside.fleet_link.facts import facts_of
    from edgeward.bedside.fleet_link.identity import Identity
    from edgeward.bedside.fleet_link.link import Link

    Link(link.url, Path(link.ca))  # a file that cannot be read is an error now, not a device that is never heard
    agent = FleetAgent(
        Identity(settings.fleet_folder),
        lambda pem: Link(link.url, Path(link.ca), pem),
        lambda: facts_of(settings.state_dir, len(settings.beds)),
        families,
        clock,
        dice=random.random,
        say=say,
        policy=Policy(first_s=link.first_s),
    )
    try:
        families.begin(agent.changed)
        yield
    finally:
        agent.close()
