"""What a site writes of its ward: the example in docs is valid, and what is wrong is told by table, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeward.bedside.feed import Population
from edgeward.cli.settings import load_hl7
from edgeward.cli.ward_settings import load_ward
from edgeward.kernel.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "ward.toml"
OUT = '[out]\ndevice = "d"\n'
LINK = "[fleet]\nurl = 'https://f'\nca = 'c'\n"


def test_the_example_is_valid_and_means_what_it_says() -> None:
    """Every way in and out, a bed with an ECG, one with limits of its own."""
    ward = load_ward(EXAMPLE, {})
    assert [plan.name for plan in ward.beds] == ["Bed 1", "Bed 2", "Bed 3", "Bed 4"]
    assert dict(ward.ecg) == {"Bed 1": "tcp://10.20.0.11:9750"}
    assert ward.page_names == ("ward7.hospital.example",)
    assert ward.thresholds.limits("Bed 3", Population.ADULT, 40).spo2_low == 88
    assert ward.thresholds.limits("Bed 1", Population.ADULT, 40).mean_low == 60
    assert ward.ways.fhir is not None
    assert list(ward.ways.fhir.settings.tokens) == ["gateway"]
    assert [one.addresses[0].url for one in ward.ways.sdc] == ["https://10.20.0.21:6464/device"]
    assert ward.ways.hl7_out is not None
    assert ward.ways.hl7_out.encrypted
    assert ward.ways.hl7_out.head.device == "edgeward-icu-north"
    assert ward.ways.fhir_out is not None
    assert dict(ward.ways.fhir_out.author.systems) == {"HOSP": "urn:oid:1.2.276.0.76.4.1"}
    assert ward.cloud is not None
    assert ward.fleet is not None
    assert (ward.updates.windows, ward.updates.zone) == (("Mon-Fri 02:00-05:00",), "Europe/Berlin")
    assert (ward.updates.rate_kib_s, ward.updates.memory_mib_max, ward.updates.defer_h) == (1024, 512, 24)
    assert (ward.updates.look_min, ward.updates.shadow_min, ward.updates.soak_min) == (60, 10, 10)
    hl7, _ = load_hl7(EXAMPLE)
    assert hl7.tls is not None


def test_without_a_table_there_is_no_such_way(tmp_path: Path) -> None:
    """HL7 in is always on; nothing leaves, and nothing else is listened to, unless a site says so."""
    path = tmp_path / "ward.toml"
    path.write_text('[ward]\nname = "W"\n')
    ways = load_ward(path, {}).ways
    assert (ways.fhir, ways.sdc, ways.hl7_out, ways.fhir_out) == (None, (), None, None)


def test_plain_text_to_another_machine_is_a_decision_of_the_site(tmp_path: Path) -> None:
    """TLS unless it is said; loopback needs none."""
    path = tmp_path / "ward.toml"
    for host, more, encrypted in (
        ("engine", "", True),
        ("engine", "plain_text = true", False),
        ("127.0.0.1", "", False),
    ):
        path.write_text(f'{OUT}[out.hl7]\nhost = "{host}"\nport = 6661\n{more}\n')
        out = load_ward(path, {}).ways.hl7_out
        assert out is not None
        assert out.encrypted is encrypted


@pytest.mark.parametrize(
    ("text", "starts", "remedy"),
    [
        ("[ward]\nnmae = 'x'", "[ward]", "known:"),
        ("[ward]\npage_port = 70000", "[ward] page_port", "65535"),
        ("[ward]\npage_names = 'x'", "[ward] page_names", "list of texts"),
        ("[ward]\ntasks = ['x']", "[ward] tasks", "sepsis-risk"),
        ("[[beds]]\nplaces = ['x']", "a bed needs a name", "NEWS2"),
        ("[[beds]]\nname = 'A'\n[[beds]]\nname = 'A'", "[[beds]]", "A"),
        ("[[beds]]\nname = 'A'\n[beds.limits]\nspo2_lo = 3", "[[beds]] A, limits:", "spo2_low"),
        ("[thresholds.adult]\nmap_low = 3", "[thresholds.adult]", "mean_low"),
        ("[thresholds]\nreminder_s = 1", "[thresholds] reminder_s", "60"),
        ("[hl7]\nzone = 'Mars'", "[hl7] zone", "Europe/Berlin"),
        ("[fhir]\nport = -1", "[fhir]", "65535"),
        ("[fhir.tokens]\na = 'secret'", "[fhir.tokens] a", "sha256sum"),
        ("[fhir]\ntls_key = 'k'", "[fhir] tls_certificate", "belong together"),
        ("sdc = 3", "sdc must be", "[[sdc]]"),
        ("[[sdc]]", "[[sdc]] devices", "at least one"),
        ("[[sdc]]\ndevices = ['ftp://x']", "[[sdc]] devices:", "http://HOST:PORT/PATH"),
        ("[[sdc]]\ndevices = ['https://x:1/d']", "[[sdc]] tls_certificate", "certificate"),
        ("[[sdc]]\ndevices = ['http://x:1/d', 'http://x:1/d']", "[[sdc]] devices", "once"),
        ("[out.hl7]\nhost = 'h'\nport = 1", "[out] device", "name this device"),
        ("[out]\ndevice = 'a b'", "[out] device", "name this device"),
        (OUT + "[out.hl7]\nhost = 'h'", "[out.hl7]", "port"),
        (OUT + "[out.hl7]\nhost = 'h'\nport = 1\nplain_text = true\ntls_authority = 'a'", "[out.hl7]", "plain_text"),
        (OUT + "[out.hl7]\nhost = 'h'\nport = 1\nzone = 'Mars'", "[out.hl7] zone", "Europe/Berlin"),
        (OUT + "scores_every_s = 1\n[out.hl7]\nhost = 'h'\nport = 1", "[out.hl7] scores_every_s", "15 seconds"),
        (OUT + "[out.fhir]\nurl = 'http://fhir.example'", "[out.fhir]", "https://HOST/BASE"),
        (OUT + "[out.fhir]\nurl = 'https://f'\nsystems = {A = 3}", "[out.fhir.systems]", "URI"),
        ("[cloud]\nurl = 'http://x'", "[cloud]", "https://HOST"),
        ("[updates]\nwindows = ['always']", "[updates] windows:", "Mon-Fri 02:00-05:00"),
        ("[updates]\nwindows = '02:00-03:00'", "[updates] windows", "list of texts"),
        ("[updates]\nzone = 'Mars'", "[updates] zone", "Europe/Berlin"),
        ("[updates]\nshadow_min = 0", "[updates] shadow_min", "between 0.1 and 1440"),
        ("[updates]\nmemory = 3", "[updates]", "memory_mib_max"),
        (LINK + "rate_kib_s = 3\nzone = 'UTC'", "[fleet] rate_kib_s, zone:", "[updates]"),
    ],
)
def test_what_is_wrong_is_told_by_table_key_and_remedy(tmp_path: Path, text: str, starts: str, remedy: str) -> None:
    """So that whoever wrote it can put it right without looking elsewhere; no token is repeated."""
    path = tmp_path / "ward.toml"
    path.write_text(text + "\n")
    load = load_hl7 if text.startswith("[hl7]") else (lambda path: load_ward(path, {}))
    with pytest.raises(ConfigError) as told:
        load(path)
    assert str(told.value).startswith(starts)
    assert remedy in str(told.value)
    assert "secret" not in str(told.value)
