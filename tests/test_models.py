"""What requests may say: names, ids, times, durations, credentials, settings."""

import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from storage.secrets import secret_name
from sync.models import CertificateIn, ConnectionIn, CredentialIn, Guid, Name, Tenant, TimeZone
from sync.sync_settings import SETTINGS, ContactsSettings, DailyIn, IntervalIn, clock_time, parse_duration

GUID = "1F4FE0A2-0d0f-4e1c-9d0c-6b1c1f0d7a11"
SECRET = {"type": "clientSecret", "secretValue": "value"}
CONNECTION = {"name": "primary", "tenantId": GUID, "clientId": GUID, "credential": SECRET}


def accepts(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            Name,
            ["a", "A-b_9", "x" * 63],
            ["", "x" * 64, "a b", "a/b", "../x", "a.b", "é", "a\n", "😀", "a\0", "a~b", 7, None, "a'"],
        ),
        (
            Guid,
            [GUID, GUID.lower(), "0" * 8 + "-0000" * 3 + "-" + "0" * 12],
            [
                "",
                "x",
                GUID + "\n",
                f"{{{GUID}}}"[:36],
                GUID.replace("-", ""),
                "\uff11" + GUID[1:],
                "_" + GUID[1:],
                7,
                None,
            ],
        ),
        (
            Tenant,
            [GUID, "contoso.com", "CONTOSO.onmicrosoft.com", "a-b.c1.co.uk", "xn--bcher-kva.example"],
            [
                "common",
                "organizations",
                "consumers",
                "contoso",
                "",
                "../x",
                "https://contoso.com",
                "contoso.com/x",
                "contoso.com?x",
                "contoso.com\n",
                "contoso .com",
                "-a.com",
                "a-.com",
                ".com",
                "a..com",
                "127.0.0.1",
                "localhost",
                "x.localhost",
                "x.LOCAL",
                "bücher.example",
                "conto\u017fo.com",
                f"{'x' * 64}.com",
                f"{'x.' * 126}com",
                7,
                None,
            ],
        ),
        (
            TimeZone,
            ["America/New_York", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"],
            [
                "",
                ".",
                "../etc/passwd",
                "/etc/passwd",
                "America/../x",
                "America/../New_York",
                "America",
                "America/",
                "Mars/Olympus",
                "New York",
                "UTC\n",
                "a\0b",
                "x" * 65,
                "é",
                "tzdata.zi",
                "__init__.py",
                7,
                None,
            ],
        ),
    ],
    ids=["Name", "Guid", "Tenant", "TimeZone"],
)
def test_texts_with_a_form(kind: Any, good: list[str], bad: list[object]) -> None:
    """Only what has the form is taken, wherever the text leads."""
    assert [value for value in good if not accepts(kind, value)] == []
    assert [value for value in bad if accepts(kind, value)] == []


def test_ids_in_one_form() -> None:
    """GUIDs and domains are kept in lower case, so that one tenant has one spelling."""
    made = ConnectionIn.model_validate({**CONNECTION, "tenantId": "CONTOSO.com"})

    assert (made.client_id, made.tenant_id) == (GUID.lower(), "contoso.com")


@given(st.text(max_size=70))
def test_any_time_zone_is_known_or_refused(text: str) -> None:
    """Whatever a time zone says, it is one that the schedule can use, or a validation error and nothing else."""
    if accepts(TimeZone, text):
        assert zoneinfo.ZoneInfo(text).utcoffset(datetime(2026, 11, 22, tzinfo=UTC)) is not None


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("PT4H", timedelta(hours=4)),
            ("P1D", timedelta(days=1)),
            ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
            ("PT90M", timedelta(minutes=90)),
            ("PT0S", timedelta(0)),
        ],
    )
    def test_durations(self, text: str, expected: timedelta) -> None:
        """Days, hours, minutes and seconds of ISO 8601, in any selection."""
        assert parse_duration(text) == expected

    @pytest.mark.parametrize(
        "text",
        ["", "P", "PT", "P1DT", "4H", "PT4", "-PT4H", "P1M", "P1Y", "P1W", "PT1.5H", "PT4H\n", "PT\uff14H", "pt4h"],
    )
    def test_what_is_no_duration(self, text: str) -> None:
        """Anything else is refused, also months and years, which have no fixed length."""
        with pytest.raises(ValueError, match="ISO 8601"):
            parse_duration(text)

    @given(st.integers(0, 9999), st.integers(0, 99999), st.integers(0, 999999), st.integers(0, 9999999))
    def test_every_part_counts(self, days: int, hours: int, minutes: int, seconds: int) -> None:
        """A duration is the sum of its parts."""
        expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)

        assert parse_duration(f"P{days}DT{hours}H{minutes}M{seconds}S") == expected

    @pytest.mark.parametrize(
        ("every", "taken"),
        [
            ("PT15M", True),
            ("P31D", True),
            ("PT14M59S", False),
            ("P31DT1S", False),
            ("PT0S", False),
            ("P9999D", False),
            ("PT99999999H", False),
        ],
    )
    def test_how_often_a_sync_may_run(self, every: str, taken: bool) -> None:
        """An interval is between a quarter of an hour and 31 days."""
        assert accepts(IntervalIn, {"mode": "interval", "every": every}) == taken


@pytest.mark.parametrize(
    ("text", "taken"),
    [("00:00", True), ("23:59", True), ("01:00", True)]
    + [(text, False) for text in ("24:00", "1:00", "01:60", "01:00:00", "01:00\n", "0\uff11:00", "", "noon")],
)
def test_local_times(text: str, taken: bool) -> None:
    """A daily schedule takes hours and minutes, and whatever it takes the clock understands."""
    assert accepts(DailyIn, {"mode": "daily", "at": text}) == taken
    if taken:
        assert clock_time(text) == time(int(text[:2]), int(text[3:]))


@pytest.mark.parametrize(
    ("labels", "taken"),
    [
        ({}, True),
        ({"customer": "42", "é😀": ""}, True),
        ({str(number): "x" * 256 for number in range(32)}, True),
        ({str(number): "x" for number in range(33)}, False),
        ({"": "x"}, False),
        ({"k" * 65: "x"}, False),
        ({"k": "x" * 257}, False),
        ({"k": 7}, False),
        ({"k": None}, False),
        ({"k": {"k": "x"}}, False),
        ([], False),
    ],
)
def test_labels(labels: object, taken: bool) -> None:
    """Labels are at most 32 short texts by short names."""
    assert accepts(ConnectionIn, {**CONNECTION, "labels": labels}) == taken


def make_pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, certified: Any = None, password: bytes | None = None
) -> str:
    """`key` and a certificate of it, or of the key `certified`."""
    owner = certified or key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenantsync tests")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = x509.CertificateBuilder(
        name, name, owner.public_key(), x509.random_serial_number(), start, start + timedelta(days=365)
    ).sign(owner, hashes.SHA256())
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def other() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class TestCertificates:
    def test_a_key_and_its_certificate(self, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey) -> None:
        """An RSA key with its certificate is taken, also with the certificates of a chain around it."""
        chain = make_pem(other).split("-----END PRIVATE KEY-----\n")[1]

        for pem in (make_pem(key), make_pem(key) + chain, chain + make_pem(key)):
            assert accepts(CertificateIn, {"type": "certificate", "pem": pem})

    @pytest.mark.parametrize(
        "pem",
        [
            lambda key, _: make_pem(key).split("-----BEGIN CERTIFICATE")[0],
            lambda key, _: "-----BEGIN CERTIFICATE" + make_pem(key).split("-----BEGIN CERTIFICATE")[1],
            lambda key, other: make_pem(key, certified=other),
            lambda key, _: make_pem(key, password=b"locked"),
            lambda _, __: make_pem(ec.generate_private_key(ec.SECP256R1())),
            lambda key, _: make_pem(key).replace("A", "B"),
            lambda _, __: "not a pem",
            lambda _, __: "",
            lambda key, _: make_pem(key) * 10,
        ],
        ids=[
            "key alone",
            "certificate alone",
            "of another key",
            "locked",
            "not RSA",
            "broken",
            "text",
            "empty",
            "long",
        ],
    )
    def test_what_cannot_sign(
        self, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey, pem: Callable[[Any, Any], str]
    ) -> None:
        """A PEM that could never sign in is refused when it is entered, at the field that holds it."""
        with pytest.raises(ValidationError) as refused:
            CertificateIn.model_validate({"type": "certificate", "pem": pem(key, other)})

        assert [fault["loc"] for fault in refused.value.errors()] == [("pem",)]

    @pytest.mark.parametrize(
        ("name", "taken"),
        [
            ("portal-cert", True),
            ("x" * 127, True),
            ("x" * 128, False),
            ("a_b", False),
            ("../a", False),
            ("", False),
            (secret_name("primary"), False),
            (secret_name("primary").upper(), False),
        ],
    )
    def test_certificates_of_the_vault(self, name: str, taken: bool) -> None:
        """A certificate may be named by its vault name; a connection's own secret is nobody else's certificate."""
        assert accepts(CertificateIn, {"type": "certificate", "keyVaultCertificate": name}) == taken

    def test_one_source(self, key: rsa.RSAPrivateKey) -> None:
        """Either a name or a PEM: not both, not neither."""
        both = {"type": "certificate", "keyVaultCertificate": "portal-cert", "pem": make_pem(key)}

        assert not accepts(CertificateIn, both)
        assert not accepts(CertificateIn, {"type": "certificate"})


class TestSecrets:
    @pytest.mark.parametrize(
        ("changes", "taken"),
        [
            ({}, True),
            ({"secretId": GUID, "expiresOn": "2028-11-01"}, True),
            ({"secretId": None, "expiresOn": None}, True),
            ({"expiresOn": "2000-01-01"}, True),
            ({"expiresOn": "1999-12-31"}, False),
            ({"expiresOn": "3000-01-01"}, False),
            ({"expiresOn": "2028-02-30"}, False),
            ({"expiresOn": "soon"}, False),
            ({"expiresOn": "2028-11-01T06:00:00Z"}, False),
            ({"secretId": "the id"}, False),
            ({"secretValue": ""}, False),
            ({"secretValue": "x" * 1025}, False),
            ({"secretValue": None}, False),
            ({"pem": "x"}, False),
            ({"type": "password"}, False),
        ],
    )
    def test_client_secrets(self, changes: dict[str, object], taken: bool) -> None:
        """A client secret has a value, may have an id and a last day within reason, and nothing else."""
        assert accepts(CredentialIn, {**SECRET, **changes}) == taken

    def test_a_secret_does_not_show(self, key: rsa.RSAPrivateKey) -> None:
        """No way of printing or dumping a credential tells its secret."""
        pem = make_pem(key)
        for credential in ({**SECRET, "secretValue": "hunter2"}, {"type": "certificate", "pem": pem}):
            made = ConnectionIn.model_validate({**CONNECTION, "credential": credential})

            for shown in (repr(made), str(made), str(made.wire()), made.model_dump_json()):
                assert "hunter2" not in shown
                assert "PRIVATE KEY" not in shown


class TestSettings:
    @pytest.mark.parametrize("sync", SETTINGS)
    def test_defaults(self, sync: str) -> None:
        """Every sync is off until it is enabled, and what its defaults say can be sent back as it is."""
        settings = SETTINGS[sync]()

        assert settings.enabled is False
        assert SETTINGS[sync].model_validate(settings.wire()) == settings
        assert (settings.deletion_guard.max_count, settings.deletion_guard.max_percent) == (500, 20)

    def test_when_syncs_run_by_default(self) -> None:
        """Photos daily at one in the morning in New York, calendars every quarter of an hour, the rest every four hours."""
        every = {"mode": "interval", "every": "PT4H"}
        others = {
            "photos": {"mode": "daily", "at": "01:00", "timeZone": "America/New_York"},
            "calendars": {"mode": "interval", "every": "PT15M"},
        }

        shown = {sync: kind().wire()["schedule"] for sync, kind in SETTINGS.items()}

        assert shown == {sync: others.get(sync, every) for sync in SETTINGS}

    @pytest.mark.parametrize(
        ("sync", "settings"),
        [
            ("users", {"enabled": "yes"}),
            ("users", {"enabled": 1}),
            ("users", {"schedule": {"mode": "hourly"}}),
            ("users", {"schedule": {"mode": "manual", "every": "PT4H"}}),
            ("users", {"schedule": {"mode": "interval"}}),
            ("users", {"schedule": None}),
            ("users", {"deletionGuard": {"maxCount": -1}}),
            ("users", {"deletionGuard": {"maxPercent": 101}}),
            ("users", {"deletionGuard": {"maxPercent": 1.5}}),
            ("users", {"invite": "always"}),
            ("users", {"size": "240x240"}),
            ("photos", {"size": "1x1"}),
            ("devices", {"includeGuests": True}),
            ("contacts", {"enabled": True}),
            ("contacts", {"groupId": "group"}),
            ("calendars", {"window": {"futureDays": 0}}),
            ("calendars", {"window": {"pastDays": 366}}),
            ("partners", {"firstRunDelay": "PT1M"}),
            ("partners", {"include": {"everything": True}}),
        ],
    )
    def test_settings_that_are_refused(self, sync: str, settings: dict[str, Any]) -> None:
        """Wrong types, wrong bounds, and fields of another sync are refused."""
        with pytest.raises(ValidationError):
            SETTINGS[sync].model_validate(settings, strict=True)

    def test_contacts_need_their_group(self) -> None:
        """Contacts cannot be enabled without the group that they are read from."""
        assert accepts(ContactsSettings, {"groupId": None})
        assert not accepts(ContactsSettings, {"enabled": True, "groupId": None})
        assert ContactsSettings.model_validate({"enabled": True, "groupId": GUID}).group_id == GUID.lower()
