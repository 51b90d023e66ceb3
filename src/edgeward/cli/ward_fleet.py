"""A ward's link to its fleet, put together from its settings: identity, updaters, agent."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.cli.say import say
from edgeward.cli.settings import within, zone_of
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.fleet_link.settings import LinkSettings
    from edgeward.bedside.updating.rules import Rules
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.cli.ward_settings import WardSettings
    from edgeward.kernel.clock import Clock


@contextlib.contextmanager
def fleet_link(settings: WardSettings, link: LinkSettings, bundles: WardBundles, clock: Clock) -> Iterator[None]:
    """Belong to a fleet while the block runs. Raises ``ConfigError`` for files that cannot be read."""
    from edgeward.bedside.fleet_link.agent import FleetAgent
    from edgeward.bedside.fleet_link.core import Policy
    from edgeward.bedside.fleet_link.facts import facts_of
    from edgeward.bedside.fleet_link.families import ward_families
    from edgeward.bedside.fleet_link.identity import Identity
    from edgeward.bedside.fleet_link.link import Link
    from edgeward.trust.fetch import TrustClient

    Link(link.url, Path(link.ca))  # a file that cannot be read is an error now, not a device that is never heard
    try:
        root = Path(settings.trusted_root).read_bytes()
    except OSError as error:
        raise ConfigError("root-unreadable", f"cannot read {settings.trusted_root}: {error.strerror}") from error
    ca = link.ca if settings.repository.startswith(link.url.rstrip("/")) else ""
    client = TrustClient(settings.repository, settings.state_dir / "trust", root=root, ca=ca)
    families = ward_families(bundles, client, clock, rules_of(link), threads=settings.threads, say=say)
    with contextlib.ExitStack() as stack:
        stack.callback(families.close)
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
        stack.callback(agent.close)
        families.begin(agent.changed)
        yield


def rules_of(link: LinkSettings) -> Rules:
    """What the site says of its updates. Raises ``ConfigError`` (``maintenance-window``, ``zone-unknown``)."""
    from edgeward.bedside.updating.rules import Rules
    from edgeward.bedside.updating.windows import MaintenanceWindows

    with within("[fleet] windows:"):
        windows = MaintenanceWindows.parse(link.windows, zone_of(link.zone, "fleet"))
    return Rules(windows, link.rate_kib_s)
