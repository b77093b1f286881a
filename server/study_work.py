"""Starts the workflow and the outbox of a site, and looks after erasures that were asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from radserve.dicom_io.database import sqlite_url
from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.facts import check_keywords
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.write_base import OutputKind
from radserve.models.catalogue import PackCatalogue, split_reference
from radserve.models.pack import ModelPack
from radserve.pipelines.outbox import Outbox
from radserve.pipelines.rules import All, Is, Not, Rule, RuleSet
from radserve.pipelines.rules_file import read_rules
from radserve.pipelines.shipping import Shipper
from radserve.pipelines.timing import CompletionPolicy, RetryPolicy, SystemClock
from radserve.pipelines.workflow import StudyWorkflow, WorkflowOptions
from radserve.server.background import running
from radserve.server.dbos_work import DbosWork
from radserve.server.destinations import site_senders
from radserve.server.records import Records
from radserve.server.senders import Destinations
from radserve.server.settings import Settings
from radserve.server.study_analysis import StoredStudyAnalysis

logger = logging.getLogger(__name__)

ERASE_POLL_S = 2.0


def site_rules(settings: Settings, catalogue: PackCatalogue) -> RuleSet:
    """The rules of the site; without a file every study goes to the default pack and nowhere else.

    But for series of a modality that it does not take: they go to the pack started beside it that does.

    Raises RadserveError INVALID_ARGUMENT for a rule with a pack, an output or a tag that does not exist.
    """
    if settings.rules_file is None:
        return RuleSet(tuple(_rules_by_modality(settings, catalogue)))
    rules = read_rules(settings.rules_file, outputs=[kind.value for kind in OutputKind], packs=catalogue.names())
    check_keywords(rules.keywords)
    return rules


def _rules_by_modality(settings: Settings, catalogue: PackCatalogue) -> Iterator[Rule]:
    taken = _modalities(catalogue.get(settings.default_pack))
    others: list[str] = []
    for reference in settings.packs:
        name = split_reference(reference)[0]
        if own := sorted(_modalities(catalogue.get(reference)) - taken - set(others)):
            others += own
            yield Rule(f"{', '.join(own)} to {name}", name, Is("modality", tuple(own)))
    when = Not(Is("modality", tuple(others))) if others else All()
    yield Rule("every other study" if others else "every study", settings.default_pack, when)


def _modalities(pack: ModelPack) -> set[str]:
    return {modality for each in pack.inputs for modality in each.modalities}


@dataclass(frozen=True, slots=True)
class SitePlan:
    """Which pack reads which series, and where results go."""

    rules: RuleSet
    destinations: Destinations


def site_plan(settings: Settings, catalogue: PackCatalogue, commitments: CommitmentInbox) -> SitePlan:
    """The plan of the settings. Raises RadserveError INVALID_ARGUMENT for rules or destinations that make no sense."""
    rules = site_rules(settings, catalogue)
    destinations = Destinations(settings.destinations, site_senders(settings, commitments))
    destinations.check(tuple(name for rule in rules.rules for name in rule.destinations))
    return SitePlan(rules, destinations)


@asynccontextmanager
async def erasing(store: StudyStore) -> AsyncIterator[None]:
    """Erase what another process (`radserve store erase`) asked for, while the block runs."""

    async def keep_erasing() -> None:
        while True:
            await asyncio.sleep(ERASE_POLL_S)
            try:
                if count := await store.erase_requested():
                    logger.info("%d studies were erased", count)
            except Exception as error:  # it is asked for until it is done
                logger.warning("erasing failed: %s", type(error).__name__)

    async with running(keep_erasing()):
        yield


@asynccontextmanager
async def studies_at_work(
    settings: Settings, records: Records, plan: SitePlan, analysis: StoredStudyAnalysis
) -> AsyncIterator[StudyWorkflow]:
    """Analyse and deliver received studies while the block runs; what is cut off goes on at the next start.

    Raises StorageError.
    """
    await records.results.open()
    work = DbosWork(
        settings.work_url or sqlite_url(settings.data_dir / "work.db"),
        node=settings.node_name,
        concurrency=settings.workflow_studies,
    )
    options = WorkflowOptions(
        plan.rules,
        CompletionPolicy(settings.study_quiet_s, settings.study_cap_s),
        RetryPolicy(attempts=settings.attempts),
    )
    clock = SystemClock()
    workflow = StudyWorkflow(records.ledger, records.results, analysis, work, clock, options)
    retries = RetryPolicy(settings.delivery_attempts, first_s=settings.delivery_retry_s, factor=6.0)
    shipper = Shipper(records.outbox, records.results, plan.destinations, clock, retries, probe=plan.destinations)
    outbox = Outbox(records.outbox, shipper, clock, settings.delivery_connections)
    await work.open()
    try:
        async with running(workflow.run()), running(outbox.run()):
            yield workflow
    finally:
        await work.close()
