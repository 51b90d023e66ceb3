"""What a site says of its fleet server (``[fleet]``), and an operator's machine of how to reach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.fleet_remote import FleetClientSettings
from edgeward.cli.settings import (
    default_state_dir,
    document,
    environment,
    table_of,
    toml_of,
    typed,
    within,
    words_of,
)
from edgeward.fleet.settings import FleetSettings, OidcSettings
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

_LISTS = ("names", "trusted_proxies")
_ROLES = ("viewer", "operator", "approver", "auditor")


def fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """What every verb of the server's own machine takes."""
    parser.add_argument("--settings", type=Path, help="TOML file with a table [fleet]")
    parser.add_argument("--folder", type=Path, help="the server's folder (default: fleet in the state folder)")
    parser.add_argument("--store", help="database: sqlite:///PATH or postgresql://… (default: a file in the folder)")


def load_fleet(path: Path | None, arguments: Mapping[str, Any]) -> FleetSettings:
    """Defaults, then the settings file, then ``arguments`` that are not None.

    Raises ``ConfigError`` for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    table = table_of(document(path).get("fleet", {}), "fleet")
    lists = {name: words_of(table.pop(name), "fleet", name) for name in _LISTS if name in table}
    oidc = _oidc(table_of(table.pop("oidc"), "fleet.oidc")) if "oidc" in table else None
    given = {key: value for key, value in arguments.items() if value is not None}
    # Lists first: whether a server may go without TLS depends on the proxies that it trusts.
    lists.update({name: given.pop(name) for name in _LISTS if name in given})
    with within("[fleet]"):
        settings = replace(FleetSettings(default_state_dir() / "fleet", oidc=oidc), **lists)  # type: ignore[arg-type]
        return replace(typed(settings, table, "fleet"), **given)


def _oidc(table: dict[str, Any]) -> OidcSettings:
    known = ", ".join(_ROLES)
    roles = table_of(table.pop("roles", {}), "fleet.oidc.roles")
    wrong = sorted(str(role) for role in roles.values() if role not in _ROLES)
    if wrong or not roles:
        raise ConfigError("setting-invalid", f"[fleet.oidc.roles] gives each value of the claim one of: {known}")
    secret = table.pop("secret_file", "")
    settings = replace(typed(OidcSettings("", ""), table, "fleet.oidc"), roles=tuple(roles.items()))
    if not settings.issuer or not settings.client_id:
        raise ConfigError("setting-incomplete", "[fleet.oidc] needs issuer and client_id")
    return replace(settings, secret_file=Path(secret).expanduser()) if secret else settings


def load_client(path: Path | None, arguments: Mapping[str, Any]) -> tuple[FleetClientSettings, str]:
    """Which server, and the token: ``[fleet_client]``, then ``arguments`` that are not None, then the environment.

    ``ConfigError``: ``token-missing``, ``token-unreadable``, and of the settings file.
    """
    table = table_of(document(path).get("fleet_client", {}), "fleet_client")
    given = {name: value for name, value in arguments.items() if value is not None}
    settings = replace(typed(FleetClientSettings(), table, "fleet_client"), **given)
    if settings.token_file != Path():
        try:
            token = settings.token_file.read_text("utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("token-unreadable", f"cannot read the token file {settings.token_file}") from error
    else:
        token = environment("EDGEWARD_FLEET_TOKEN").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(
            "token-missing",
            "give an API token: --token-file FILE or $EDGEWARD_FLEET_TOKEN; on the server's machine "
            "edgeward fleet user token NAME makes one",
        )
    return settings, token


def plan_of(path: Path) -> dict[str, Any]:
    """A rollout's plan, as its file says it; the server reads it. ``ConfigError`` for a file that cannot be read."""
    return toml_of(path, "plan")
