"""The site's settings. The environment is read here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1 << 20
PREFIX = "RADSERVE_"


class Settings(BaseSettings):
    """Frozen; built once and passed on. Each field may be set as RADSERVE_<NAME> in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8500, ge=0, le=65535, description="gRPC port; 0 takes a free one")
    grpc_tls_certificate: Path | None = Field(
        None, description="certificate chain (PEM) of the gRPC port; none: no TLS"
    )
    grpc_tls_key: Path | None = Field(None, description="its key (PEM); none: it stands in the certificate's file")
    grpc_tls_clients: Path | None = Field(
        None, description="authorities (PEM) of client certificates, which are then needed (mutual TLS)"
    )
    grpc_open: bool = Field(False, description="gRPC beyond the loopback address without TLS and client certificates")
    server: str = Field("", description="HOST:PORT that `radserve infer` asks without --server; empty: an embedded one")
    server_tls_ca: Path | None = Field(
        None, description="authorities (PEM) of the server that is asked, which is then asked over TLS; none: no TLS"
    )
    server_tls_certificate: Path | None = Field(
        None, description="certificate chain (PEM) that commands show to that server; none: none"
    )
    server_tls_key: Path | None = Field(None, description="its key (PEM); none: it stands in the certificate's file")
    data_dir: Path = Field(Path("radserve-data"), description="where studies and logs are kept")
    pack_dirs: tuple[Path, ...] = Field((), description="folders with further model packs, as a JSON list")
    default_pack: str = Field(
        "cxr-bus-mini", description="the pack of requests that name none; NAME@VERSION until one is promoted"
    )
    packs: tuple[str, ...] = Field(
        (), description="packs beside the default one: they take the studies that it does not, as a JSON list"
    )
    promotion_profile: Path | None = Field(
        None, description="acceptance profile that an evaluation record must be of; none: of any"
    )
    record_signing_key: Path | None = Field(
        None, description="public key (PEM) that evaluation records must be signed with for promotion; none: not asked"
    )
    reference_studies: Path | None = Field(
        None,
        description="table (CSV) of stored, labelled studies for re-evaluation by the promotion profile; none: none",
    )
    reevaluation_hours: float = Field(168.0, gt=0, description="how often they are read again by the pack that answers")
    pack_store: Path = Field(Path("radserve-packs"), description="where `radserve models add` puts packs")
    site_use: Literal["research", "commercial"] = Field(
        "research", description="commercial refuses packs whose licence does not allow that"
    )
    commercial_licences: tuple[str, ...] = Field(
        (), description="further licences that allow commercial use here, as a JSON list"
    )
    pack_signing_key: Path | None = Field(
        None, description="public key (PEM) that packs of the site's folders must be signed with; none: not asked"
    )
    data_signing_key: Path | None = Field(
        None, description="public key (PEM) that data for adaptation must be signed with; none: not asked"
    )
    preprocessors: tuple[str, ...] = Field(
        (), description="pre-processors of installed packages that packs may name, as a JSON list"
    )
    report_templates: tuple[str, ...] = Field(
        (), description="report templates of installed packages that word drafts here, as a JSON list"
    )
    triton_url: str = Field("", description="HOST:PORT of an outside Triton; empty starts the embedded one")
    triton_instances: int = Field(2, ge=1, description="instances of each graph in the embedded Triton")
    triton_start_timeout_s: float = Field(120.0, gt=0, description="how long the embedded Triton may take to start")
    report_decoder: Literal["stream", "steps"] = Field(
        "stream", description="in the embedded Triton: the whole loop there, or a request for each token from here"
    )
    decode_workers: int = Field(2, ge=1, description="sandboxed processes that parse, decode and write DICOM")
    decode_memory_mib: int = Field(2048, ge=256, description="address space of a sandboxed process")
    decode_cpu_s: float = Field(30.0, gt=0, description="processor time of one task in the sandbox")
    decode_wall_s: float = Field(60.0, gt=0, description="time of one task in the sandbox")
    preprocess_workers: int = Field(1, ge=1, description="processes that run MONAI")
    max_instance_mib: int = Field(512, ge=1, description="largest DICOM instance that is taken")
    max_message_mib: int = Field(64, ge=4, description="largest gRPC message, which bounds inline requests")
    max_concurrent_requests: int = Field(64, ge=1, description="requests in work at once; more are told to come back")
    dimse_port: int | None = Field(None, ge=0, le=65535, description="port for C-ECHO and C-STORE; none: no DIMSE")
    ae_title: str = Field("RADSERVE", description="AE title of this server")
    dimse_peers: tuple[str, ...] = Field((), description="AE titles that may send, as a JSON list; empty: any")
    dimse_tls_certificate: Path | None = Field(None, description="certificate chain (PEM) for DICOM TLS; none: no TLS")
    dimse_tls_key: Path | None = Field(None, description="its key (PEM); none: it stands in the certificate's file")
    dimse_tls_ca: Path | None = Field(
        None, description="authorities (PEM) of the peers: each has to show a certificate of theirs (mutual TLS)"
    )
    dimse_peer_certificates: dict[str, str] = Field(
        {}, description="a JSON object: SHA-256 (hex) of the certificate by which alone an AE title may send"
    )
    dimse_associations: int = Field(8, ge=1, description="associations of one AE title at once")
    dimse_instances_per_minute: int | None = Field(
        None, ge=1, description="instances of one AE title in a minute; more are refused (A700); none: no limit"
    )
    watch_folder: Path | None = Field(
        None, description="folder whose DICOM files are taken in and removed; none: no such"
    )
    watch_settle_s: float = Field(2.0, gt=0, description="a file there is taken when it has not changed for so long")
    disk_reserve_mib: int = Field(1024, ge=0, description="C-STORE is refused (A700) where less than this is free")
    http_port: int | None = Field(None, ge=0, le=65535, description="port for DICOMweb; none: no HTTP")
    http_token: str = Field("", repr=False, description="bearer token that HTTP clients have to send; empty: none")
    http_tls_certificate: Path | None = Field(None, description="PEM file of the HTTP server; without, no TLS")
    http_tls_key: Path | None = Field(None, description="PEM file of its key, where that is a file of its own")
    http_tls_clients: Path | None = Field(None, description="authorities of client certificates, which are then needed")
    http_open: bool = Field(False, description="HTTP beyond the loopback address without TLS and token")
    http_public_url: str = Field("", description="how clients reach the HTTP port, for links; empty: as they say")
    http_cors_origins: tuple[str, ...] = Field((), description="web origins that may call, as a JSON list")
    http_max_request_mib: int = Field(8192, ge=1, description="largest body of an HTTP request")
    intended_use: Literal["warn", "strict"] = Field(
        "warn", description="outside a pack's intended use: a result with a warning, or a refusal"
    )
    prompt_dirs: tuple[Path, ...] = Field((), description="folders with prompt sets of the site, as a JSON list")
    never_allowed_file: Path | None = Field(
        None, description="claims that no generated text may make (TOML), added to those that come with radserve"
    )
    index_url: str = Field("", description="database of the index, an SQLAlchemy URL; empty: SQLite in the data folder")
    erased_studies: Literal["refuse", "allow"] = Field(
        "refuse", description="whether a study that was erased is taken when it comes again"
    )
    retention_days: float | None = Field(
        None,
        gt=0,
        description="a finished study is erased when nothing came for it for so many days; none: kept for good",
    )
    workflow: bool = Field(False, description="whether received studies are analysed and delivered by themselves")
    work_url: str = Field("", description="database of durable work (DBOS); empty: SQLite in the data folder")
    node_name: str = Field("local", description="name of this server among those that share a work database")
    rules_file: Path | None = Field(None, description="routing rules (TOML); without, the default pack for every study")
    destinations: dict[str, str] = Field(
        {}, description="where results go: a JSON object of names and URLs (see Destinations)"
    )
    web_authorization: dict[str, SecretStr] = Field(
        {}, description="Authorization headers of DICOMweb peers: a JSON object of HOST or HOST:PORT and header"
    )
    web_ca: Path | None = Field(None, description="certificate authorities (PEM) of DICOMweb peers; none: the system's")
    storage_commitment: Literal["off", "offered", "required"] = Field(
        "off",
        description="whether a C-STORE delivery ends with storage commitment: off, offered (where it is) or required",
    )
    storage_commitment_s: float = Field(60.0, gt=0, description="how long a report of storage commitment is waited for")
    ups_url: str = Field("", description="UPS-RS origin server whose workitems are performed; empty: none")
    ups_archive_url: str = Field("", description="DICOMweb service with their images; empty: the origin server's")
    ups_query: dict[str, str] = Field({}, description="which workitems: a JSON object of attributes and values")
    ups_poll_s: float = Field(10.0, gt=0, description="how often the worklist is looked at")
    workflow_studies: int = Field(2, ge=1, description="received studies that are analysed at once")
    study_quiet_s: float = Field(60.0, ge=0, description="a study is complete when nothing came for so long")
    complete_on_release: tuple[str, ...] = Field(
        (),
        description='AE titles whose studies are complete when their association is released, as a JSON list; "*": any',
    )
    study_cap_s: float = Field(3600.0, ge=0, description="a study is closed after so long in any case")
    attempts: int = Field(3, ge=1, description="attempts of an analysis before it goes to quarantine")
    delivery_connections: int = Field(
        2, ge=1, description="associations, or connections for HTTP, with one destination at once"
    )
    delivery_attempts: int = Field(
        24, ge=1, description="attempts of a delivery before it goes to quarantine; the default is some three hours"
    )
    delivery_retry_s: float = Field(
        10.0, ge=0, description="wait after a first failed delivery; it grows sixfold, to 600 s"
    )
    text_service_url: str = Field(
        "", description="text service that words reports (OpenAI's chat protocol), with its /v1; empty: none"
    )
    text_service_model: str = Field("", description="the model to ask there")
    text_service_key_file: Path | None = Field(None, description="file with its key (bearer token); none: no key")
    text_service_timeout_s: float = Field(60.0, gt=0, description="how long it may take for the text of one series")
    text_service_ca: Path | None = Field(None, description="its certificate authorities (PEM); none: the system's")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")

    @property
    def decoder_loop(self) -> bool:
        """Whether reports are written by the loop inside the embedded Triton."""
        return not self.triton_url and self.report_decoder == "stream"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @property
    def max_message_bytes(self) -> int:
        return self.max_message_mib * MEBIBYTE


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names in the environment that look like a setting and are none: most are misspelt, and would be ignored."""
    names = (name for name in environment if name.upper().startswith(PREFIX))
    return sorted(name for name in names if name.upper().removeprefix(PREFIX).lower() not in Settings.model_fields)
