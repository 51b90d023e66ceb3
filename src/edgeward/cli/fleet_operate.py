"""``edgeward fleet devices|device|describe|revoke|lost|rollouts|rollout|audit list``: operators' deeds, over REST."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.fleet_remote import Remote
from edgeward.cli.fleet_settings import load_client, plan_of
from edgeward.cli.fleet_table import moment, say_facts, say_json, say_table
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

_PAGE = 500
_DEEDS = {
    "approve": "vouch for a draft, as a second person",
    "pause": "no device gets an order until it is resumed",
    "resume": "let a paused rollout go on",
    "abort": "end it: every order is withdrawn, and devices that committed keep the bundle",
    "return": "send devices back, after it has ended",
}
_ENDS = {
    "revoke": "end a device's certificates now; its beds go on, and it may apply again",
    "lost": "as revoke, of a device that is gone: the inventory says so",
}
_CODES = "Exit codes: 0 done, 2 server, token or arguments, 3 no such thing, 7 the rollout may not do this."


def register(subjects: Any) -> None:
    """Add what is done from elsewhere to ``edgeward fleet``."""
    devices = _verb(subjects, "devices", "the inventory", run_devices)
    for name in ("state", "group", "tag", "family", "version", "rung", "text"):
        devices.add_argument(
            f"--{name}", default="", help=f"only this {name}" if name != "text" else "part of id or label"
        )
    devices.add_argument("--silent", action="store_true", help="only those that missed three check-ins")
    device = _verb(subjects, "device", "one device whole", run_device)
    device.add_argument("device_id", metavar="DEVICE", help="its id, d-…")
    described = _verb(subjects, "describe", "give a device another label, group or tags", run_describe)
    described.add_argument("device_id", metavar="DEVICE", help="its id, d-…")
    described.add_argument("--label", help="free text for people; no patient's name")
    described.add_argument("--group", help="the group that rollouts choose it by; '' for none")
    described.add_argument("--tag", dest="tags", action="append", default=[], help="put it on; may be repeated")
    described.add_argument("--untag", dest="untags", action="append", default=[], help="take it off; may be repeated")
    for end, words in _ENDS.items():
        parser = _verb(subjects, end, words, run_end)
        parser.add_argument("device_id", metavar="DEVICE", help="its id, d-…")
        parser.set_defaults(end=end)
    listed = _verb(subjects, "rollouts", "rollouts, the newest first", run_rollouts)
    listed.add_argument("--family", default="", help="only this model family")
    listed.add_argument("--status", default="", help="only those that are draft, running, halted …")
    rollout = subjects.add_parser("rollout", help="draft, approve, steer and watch one rollout", epilog=_CODES)
    deeds = rollout.add_subparsers(title="deeds", metavar="DEED", required=True)
    create = _verb(deeds, "create", "draft a rollout; a second person approves it", run_create)
    create.add_argument("family", help="model family; the bundle is the one that the repository names now")
    create.add_argument("--sha256", help="refuse unless the bundle has this hash")
    create.add_argument("--label", default="", help="free text for people; no patient's name")
    create.add_argument(
        "--plan", type=Path, help="TOML file with the plan (docs/rollouts.md; default: canary, 1, 10, 50 %%)"
    )
    show = _verb(deeds, "show", "stages, counts and the reason of every failure", run_show)
    places = _verb(deeds, "devices", "devices of a rollout", run_places)
    places.add_argument("--standing", default="", help="only these: working, committed, failed, silent …")
    places.add_argument("--errors", action="store_true", help="only those that count as errors")
    for one in (show, places):
        one.add_argument("number", type=int, help="the rollout's number")
    for deed, words in _DEEDS.items():
        parser = _verb(deeds, deed, words, run_deed)
        parser.add_argument("number", type=int, help="the rollout's number")
        parser.add_argument("--revision", type=int, help="what 'show' said; refused when it has changed since")
        parser.set_defaults(deed=deed)


def register_audit(deeds: Any) -> None:
    """Add reading the audit over REST beside verifying it on the server's machine."""
    listed = _verb(deeds, "list", "who did what, the newest first, over REST", run_audit)
    for name in ("action", "subject", "actor"):
        listed.add_argument(f"--{name}", default="", help=f"only this {name}")
    listed.add_argument("--count", type=int, default=100, help="how many (default: 100)")


def _verb(verbs: Any, name: str, words: str, run: Any) -> Any:
    parser = verbs.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.", epilog=_CODES)
    parser.add_argument("--settings", type=Path, help="TOML file with a table [fleet_client]")
    parser.add_argument("--server", help="the fleet server's URL (default: https://127.0.0.1:8470)")
    parser.add_argument("--token-file", type=Path, help="file with an API token (else $EDGEWARD_FLEET_TOKEN)")
    parser.add_argument("--authority", help="PEM of the fleet's authority (ca.pem)")
    parser.add_argument("--json", action="store_true", help="print the server's answer as JSON")
    parser.set_defaults(run=run)
    return parser


def _remote(arguments: argparse.Namespace) -> Remote:
    given = {name: getattr(arguments, name) for name in ("server", "token_file", "authority")}
    settings, token = load_client(arguments.settings, given)
    return Remote(settings, token)


def run_devices(arguments: argparse.Namespace) -> int:
    """The verb ``fleet devices``."""
    names = ("state", "group", "tag", "family", "version", "rung", "text", "silent")
    query = {name: getattr(arguments, name) for name in names} | {"count": _PAGE}
    query["silent"] = "true" if arguments.silent else ""
    remote, found, after = _remote(arguments), [], ""
    while True:
        page = remote.get("/devices", {**query, "after": after})
        found += page["devices"]
        after = page["next"]
        if not after:
            break
    if arguments.json:
        say_json(found)
        return 0
    columns = ("DEVICE", "STATE", "HEARD", "GROUP", "LABEL", "RUNS", "UPDATE")
    say_table(columns, (_device_row(one) for one in found), none="no device is like this")
    return 0


def _device_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    runs = ", ".join(f"{row['family']} {row['version'] or '-'} {row['rung']}" for row in one["families"])
    updates = [row for row in one["families"] if row["rollout"]]
    update = ", ".join(
        f"{row['rollout']}: {' '.join(filter(None, (row['update_state'], row['why'])))}" for row in updates
    )
    state = "silent" if one["silent"] else one["state"]
    return one["id"], state, moment(one["seen_s"]), one["group"], one["label"], runs, update


def run_describe(arguments: argparse.Namespace) -> int:
    """The verb ``fleet describe``; refused when somebody else changed the device meanwhile."""
    change = {name: value for name in ("label", "group") if (value := getattr(arguments, name)) is not None}
    if not change and not arguments.tags and not arguments.untags:
        raise ConfigError("change-missing", "say what changes: --label, --group, --tag or --untag")
    remote, path = _remote(arguments), f"/devices/{arguments.device_id}"
    seen = remote.get(path)["device"]
    tags = {*seen["tags"], *arguments.tags} - set(arguments.untags)
    remote.ask("PATCH", path, {**change, "tags": sorted(tags), "revision": seen["revision"]})
    found = remote.get(path)["device"]
    if arguments.json:
        say_json(found)
    else:
        words = f"group {found['group'] or 'none'}, tags {', '.join(found['tags']) or 'none'}"
        print(f"{found['id']}: label {found['label'] or 'none'}, {words}")
    return 0


def run_end(arguments: argparse.Namespace) -> int:
    """The verbs ``fleet revoke`` and ``fleet lost``."""
    _remote(arguments).ask("POST", f"/devices/{arguments.device_id}/{arguments.end}")
    state = "lost" if arguments.end == "lost" else "revoked"
    if arguments.json:
        say_json({"id": arguments.device_id, "state": state})
    else:
        print(f"{arguments.device_id} is {state}: its certificates ended; its beds go on")
    return 0


def run_device(arguments: argparse.Namespace) -> int:
    """The verb ``fleet device``."""
    found = _remote(arguments).get(f"/devices/{arguments.device_id}")
    if arguments.json:
        say_json(found)
        return 0
    device = found["device"]
    names = (
        "id",
        "state",
        "label",
        "group",
        "machine",
        "accelerator",
        "cores",
        "memory_mib",
        "free_mib",
        "beds",
        "software",
    )
    facts = {name: device[name] for name in names}
    facts |= {"tags": ", ".join(device["tags"]), "heard": moment(device["seen_s"]), "silent": device["silent"]}
    facts["certificate until"] = moment(device["certificate_expires_s"])
    say_facts(facts)
    print()
    columns = ("FAMILY", "VERSION", "BEFORE", "RUNG", "ROLLOUT", "STATE", "WHY")
    keys = ("family", "version", "previous_version", "rung", "rollout", "update_state")
    rows = ([*(row[key] or "" for key in keys), _why(row)] for row in device["families"])
    say_table(columns, rows, none="it has not checked in yet")
    return 0


def run_rollouts(arguments: argparse.Namespace) -> int:
    """The verb ``fleet rollouts``."""
    found = _remote(arguments).get("/rollouts", {"family": arguments.family, "status": arguments.status})
    if arguments.json:
        say_json(found)
        return 0
    columns = ("NO", "BUNDLE", "STATUS", "STAGE", "COMMITTED", "ERRORS", "DEVICES", "AUTHOR", "APPROVER", "LABEL")
    say_table(columns, (_rollout_row(one) for one in found), none="no rollout is like this")
    return 0


def _rollout_row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    counts = one["counts"]
    status = one["status"] + (f" ({one['cause']})" if one["cause"] else "")
    stage = f"{one['stage_number']} of {one['stages']}"
    figures = counts["committed"], counts["errors"], one["devices"]
    bundle = f"{one['family']} {one['version']}"
    return one["id"], bundle, status, stage, *figures, one["author"], one["approver"], one["label"]


def run_create(arguments: argparse.Namespace) -> int:
    """The verb ``fleet rollout create``."""
    draft = {"family": arguments.family, "sha256": arguments.sha256, "label": arguments.label}
    draft["plan"] = plan_of(arguments.plan) if arguments.plan is not None else {}
    made = _remote(arguments).ask("POST", "/rollouts", draft)
    if arguments.json:
        say_json(made)
    else:
        print(
            f"rollout {made['id']} is drafted; a second person approves it: edgeward fleet rollout approve {made['id']}"
        )
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """The verb ``fleet rollout show``."""
    found = _remote(arguments).get(f"/rollouts/{arguments.number}")
    if arguments.json:
        say_json(found)
        return 0
    rollout = found["rollout"]
    say_facts(
        {
            "rollout": f"{rollout['id']}: {rollout['family']} {rollout['version']}",
            "status": rollout["status"] + (f" ({rollout['cause']})" if rollout["cause"] else ""),
            "revision": rollout["revision"],
            "drafted by": rollout["author"],
            "approved by": rollout["approver"] or "nobody yet",
            "goes back to": rollout["return_version"] or "nothing",
            "return": " ".join(filter(None, (rollout["way_back"], rollout["return_note"]))) or "not asked for",
        }
    )
    print()
    apart = ("waiting", "withdrawn", "ended", "offline", "already")
    counts = ("working", "committed", "failed", "rolled_back", "unproven", "silent", *apart)
    rows = [[stage["name"], stage["state"], *(stage["counts"][name] for name in counts)] for stage in found["stages"]]
    say_table(("STAGE", "STATE", *(name.upper().replace("_", "-") for name in counts)), rows, none="no stages")
    if found["reasons"]:
        print()
        reasons = ([one["devices"], one["standing"], _why(one)] for one in found["reasons"])
        say_table(("DEVICES", "STANDING", "WHY"), reasons, none="")
    return 0


def run_places(arguments: argparse.Namespace) -> int:
    """The verb ``fleet rollout devices``."""
    remote, found, after = _remote(arguments), [], ""
    errors = "true" if arguments.errors else ""
    while True:
        query = {"standing": arguments.standing, "errors": errors, "after": after, "count": _PAGE}
        page = remote.get(f"/rollouts/{arguments.number}/devices", query)
        found += page
        if len(page) < _PAGE:
            break
        after = page[-1]["device_id"]
    if arguments.json:
        say_json(found)
        return 0
    columns = ("DEVICE", "GROUP", "LABEL", "STAGE", "STANDING", "STATE", "CHANGED", "WHY")
    names = ("device_id", "group", "label", "stage", "standing", "state")
    rows = ([*(one[name] for name in names), moment(one["changed_s"]), _why(one)] for one in found)
    say_table(columns, rows, none="no device is like this")
    return 0


def _why(one: Mapping[str, Any]) -> str:
    """The word for programs and the sentence for people, or what there is of them."""
    return ": ".join(filter(None, (one["why"], one["why_words"])))


def run_deed(arguments: argparse.Namespace) -> int:
    """The verbs ``fleet rollout approve``, ``pause``, ``resume``, ``abort`` and ``return``."""
    remote = _remote(arguments)
    remote.ask("POST", f"/rollouts/{arguments.number}/{arguments.deed}", {"revision": arguments.revision})
    rollout = remote.get(f"/rollouts/{arguments.number}")["rollout"]
    if arguments.json:
        say_json(rollout)
    else:
        print(f"rollout {rollout['id']} is {rollout['status']}" + (", going back" if rollout["way_back"] else ""))
    return 0


def run_audit(arguments: argparse.Namespace) -> int:
    """The verb ``fleet audit list``."""
    if not 1 <= arguments.count <= 1_000:
        raise ConfigError("audit-count", "--count lies between 1 and 1000")
    query = {name: getattr(arguments, name) for name in ("action", "subject", "actor", "count")}
    found = _remote(arguments).get("/audit", query)["entries"]
    if arguments.json:
        say_json(found)
        return 0
    rows = (
        [one["seq"], moment(one["time_s"]), one["actor"], one["action"], one["subject"], _detail(one["detail"])]
        for one in found
    )
    say_table(("ENTRY", "WHEN", "WHO", "DID", "TO", "DETAIL"), rows, none="no entry is like this")
    return 0


def _detail(detail: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in detail.items() if value not in ("", None))
