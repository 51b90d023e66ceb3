"""The demo's fleet server: a fleet made for the occasion, its people, tokens for its devices; then it serves.

``python -m edgeward.cli.demo_server FOLDER REPOSITORY ROOT KEYS DEVICES``. It runs in the server's own environment, and
says what it made as one line of JSON before anything else.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path


def main(argv: list[str]) -> int:
    """Make the fleet and serve it until SIGTERM."""
    from edgeward.cli.fleet_serve import serve
    from edgeward.fleet.accounts import Accounts, Role
    from edgeward.fleet.authority import Authority
    from edgeward.fleet.enrol import Enrolments, Vouch
    from edgeward.fleet.settings import FleetSettings
    from edgeward.fleet.setup import make_fleet
    from edgeward.fleet.store.engine import Store

    folder, repository, root, keys, count = argv
    settings = FleetSettings(
        Path(folder),
        port=0,
        names=("127.0.0.1", "localhost"),
        repository=repository,
        trusted_root=root,
        online_keys=keys,
        check_in_s=1,
    )
    now_s = int(time.time())
    list(make_fleet(settings, now_s))
    store = Store(settings.store_url)
    accounts = Accounts(store)
    people = {}
    for name, role in (("operator", Role.OPERATOR), ("approver", Role.APPROVER)):
        accounts.add_user(name, role, secrets.token_urlsafe(24), actor="demo", now_s=now_s)
        people[name], _ = accounts.make_token(name, label="demo", days=1, actor="demo", now_s=now_s)
    enrolments = Enrolments(store, Authority.load(*settings.authority_files), days=settings.days)
    tokens = [
        enrolments.make_token(Vouch(f"Ward {letter}"), days=1, actor="demo", now_s=now_s)[0]
        for letter in "ABCDEFGH"[: int(count)]
    ]
    store.close()
    print(json.dumps({"people": people, "tokens": tokens, "ca": str(settings.authority_files[0])}), flush=True)
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
