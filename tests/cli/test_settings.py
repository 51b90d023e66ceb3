"""Settings are strict: what is misspelt or out of range is an error that names what is known."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfoNotFoundError

import pytest

from edgeward.bedside.feed import Population
from edgeward.bedside.thresholds.settings import Latch
from edgeward.cli import settings as cli_settings
from edgeward.cli.settings import load_bedside
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def _file(folder: Path, text: str) -> Path:
    path = folder / "edgeward.toml"
    path.write_text(text)
    return path


def test_arguments_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    """Order: defaults, TOML, arguments."""
    path = _file(tmp_path, '[bedside]\nbed = "7"\ndwell_s = 10\npage_port = 9000\n[bedside.limits]\nhr_high = 130\n')
    settings = load_bedside(path, {"page_port": 9001, "bed": None})
    assert (settings.bed, settings.dwell_s, settings.page_port) == ("7", 10.0, 9001)
    assert settings.limits.limits("7", Population.ADULT, None).hr_high == 130.0
    assert settings.limits.limits("7", Population.ADULT, None).hr_low == 50.0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[bedsid]\n", "setting-unknown"),
        ("[bedside]\npage_prot = 1\n", "setting-unknown"),
        ('[bedside]\npage_port = "80"\n', "setting-invalid"),
        ("[bedside]\npage_port = 70000\n", "setting-invalid"),
        ("[bedside.limits]\nhigh = 130\n", "setting-unknown"),
        ('[bedside]\nrepository = "x"\n', "setting-incomplete"),
        ("[bedside\n", "settings-unreadable"),
        ("bedside = 5\n", "setting-invalid"),
        ("[bedside]\nlimits = 5\n", "setting-invalid"),
        ("[bedside]\nthreads = true\n", "setting-invalid"),
        ("[bedside]\nspeed = nan\n", "setting-invalid"),
        ("[bedside]\ndwell_s = nan\n", "setting-invalid"),
        ("[bedside]\nrun_for_s = inf\n", "setting-invalid"),
        ("[bedside]\nrun_for_s = -1\n", "setting-invalid"),
        ("[bedside.limits]\nasystole_s = nan\n", "setting-invalid"),
        ("[bedside.limits]\nasystole_s = 60\n", "setting-invalid"),
        ("[bedside.limits]\nhr_delay_s = inf\n", "setting-invalid"),
        ("[bedside.limits]\nhr_low = 130\n", "setting-invalid"),
        ("[bedside.limits]\nhr_extreme_high = 1000\n", "setting-invalid"),
        ("[bedside.limits]\nhr_hysteresis = -1\n", "setting-invalid"),
        ('[bedside.limits]\nhr_high = "130"\n', "setting-invalid"),
        ("[bedside.heart_rate]\nhigh_bpm = 130\n", "setting-unknown"),
        ('[bedside]\npopulation = "child"\n', "setting-invalid"),
        ("[bedside]\nage_y = -1\n", "setting-invalid"),
        ('[bedside]\npopulation = "neonatal"\n[bedside.limits]\nhr_high = 90\n', "setting-invalid"),
    ],
)
def test_a_wrong_file_is_refused_with_a_code(tmp_path: Path, text: str, code: str) -> None:
    """Each kind of mistake has its code."""
    with pytest.raises(ConfigError) as refused:
        load_bedside(_file(tmp_path, text), {})
    assert refused.value.code == code


def test_a_device_without_time_zone_data_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone is right and the device cannot know it: another message than for a misspelt one."""

    def unknown(name: str) -> None:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(cli_settings, "ZoneInfo", unknown)
    monkeypatch.setattr(cli_settings, "available_timezones", set)
    with pytest.raises(ConfigError, match="tzdata") as caught:
        cli_settings.zone_of("Europe/Berlin", "fleet")
    assert caught.value.code == "zone-data-missing"


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDGEWARD_SETTINGS is read where no --settings is given; EDGEWARD_STATE moves the state."""
    monkeypatch.setenv("EDGEWARD_SETTINGS", str(_file(tmp_path, '[bedside]\nsite = "Ward 3"\n')))
    monkeypatch.setenv("EDGEWARD_STATE", str(tmp_path / "state"))
    settings = load_bedside(None, {})
    assert settings.site == "Ward 3"
    assert settings.state_dir == tmp_path / "state"


def test_the_limits_of_an_ecg_bed_are_those_of_its_population(tmp_path: Path) -> None:
    """A child's by age, changed by name; nothing latches where nothing can be acknowledged."""
    text = '[bedside]\npopulation = "paediatric"\nage_y = 4\n[bedside.limits]\nhr_high = 152\nhr_extreme_high = 175\n'
    path = _file(tmp_path, text)
    settings = load_bedside(path, {})
    limits = settings.limits.limits(settings.bed, Population(settings.population), settings.age_y)
    assert (limits.hr_low, limits.hr_high) == (75.0, 152.0)
    assert settings.limits.latch is Latch.NONE
    assert load_bedside(None, {}).limits.latch is Latch.NONE
