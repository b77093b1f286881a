"""Orthanc plugin (orthanc-python): sends each image series of a stable study to radserve, until it has arrived, once.

A series is marked as routed, in its metadata, with the number of its instances and only when Orthanc's C-STORE job has
succeeded. So an outage of radserve costs time and no study; late instances make a series be routed again; and a restart
of Orthanc goes on with what was received lately and is not marked. What radserve made (by its Manufacturer) and what is
no image is not routed. The section "Radserve" of Orthanc's configuration:

    Modality      name of radserve in DicomModalities
    RecentDays    how far a start of Orthanc looks back
    RetrySeconds  waits after a failed job; the last one repeats
"""

import json
import threading
from datetime import UTC, datetime, timedelta

import orthanc

SETTINGS = {"Modality": "radserve", "RecentDays": 7, "RetrySeconds": [10, 30, 60, 300]}
SETTINGS.update(json.loads(orthanc.GetConfiguration()).get("Radserve", {}))
ROUTED = "4242"  # user-defined metadata: the instances that were there when the series was routed
NO_IMAGES = {"SR", "SEG", "PR", "KO", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "AU", "ECG"}
RESULTS_OF = "radserve"  # Manufacturer of its results
PAGE = 100

lock = threading.Lock()
under_way = {}  # job -> (study, series with their numbers of instances)
failures = {}  # study -> jobs that failed one after the other


def get(uri):
    return json.loads(orthanc.RestApiGet(uri))


def routed(series):
    """How many instances of a series were routed."""
    try:
        return int(orthanc.RestApiGet(f"/series/{series}/metadata/{ROUTED}"))
    except (orthanc.OrthancException, ValueError):
        return 0


def to_route(study):
    """The series of a study that radserve is to have, with their numbers of instances."""
    found = {}
    for each in get(f"/studies/{study}/series"):
        tags = each["MainDicomTags"]
        if tags.get("Modality") in NO_IMAGES or tags.get("Manufacturer") == RESULTS_OF:
            continue
        count = len(each["Instances"])
        if count > routed(each["ID"]):
            found[each["ID"]] = count
    return found


def route(study):
    with lock:
        if study in [each for each, _ in under_way.values()]:
            return  # its end looks at the study again
        try:
            series = to_route(study)
            if not series:
                return
            order = json.dumps({"Resources": list(series), "Asynchronous": True})
            job = json.loads(orthanc.RestApiPost(f"/modalities/{SETTINGS['Modality']}/store", order))["ID"]
        except (orthanc.OrthancException, KeyError):  # the study was deleted, or the modality is not configured
            orthanc.LogWarning(f"radserve: {study} cannot be routed")
            return
        under_way[job] = (study, series)
    orthanc.LogWarning(f"radserve: {study} is sent, {len(series)} series, job {job}")


def ended(job, succeeded):
    with lock:
        if job not in under_way:
            return
        study, series = under_way.pop(job)
        if succeeded:
            failures.pop(study, None)
            for each, count in series.items():
                orthanc.RestApiPut(f"/series/{each}/metadata/{ROUTED}", str(count))
            orthanc.LogWarning(f"radserve: {study} has arrived")
        else:
            failures[study] = failures.get(study, 0) + 1
            waits = SETTINGS["RetrySeconds"]
            seconds = waits[min(failures[study], len(waits)) - 1]
            orthanc.LogWarning(f"radserve: {study} was not taken, the next attempt is in {seconds} s")
            later(seconds, route, study)
    if succeeded:
        route(study)  # what came meanwhile


def look_back():
    """Route what was received lately and is not marked; after an outage of Orthanc itself."""
    since = (datetime.now(UTC) - timedelta(days=SETTINGS["RecentDays"])).strftime("%Y%m%dT%H%M%S")
    at = 0
    while page := get(f"/studies?expand&since={at}&limit={PAGE}"):
        at += len(page)
        for study in page:
            if study["LastUpdate"] >= since:
                route(study["ID"])


def later(seconds, function, *arguments):
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()


def on_change(change, level, resource):
    """REST calls from within this callback can block Orthanc: everything is done in a thread."""
    if change == orthanc.ChangeType.STABLE_STUDY:
        later(0, route, resource)
    elif change in (orthanc.ChangeType.JOB_SUCCESS, orthanc.ChangeType.JOB_FAILURE):
        later(0, ended, resource, change == orthanc.ChangeType.JOB_SUCCESS)
    elif change == orthanc.ChangeType.ORTHANC_STARTED:
        later(0, look_back)


orthanc.RegisterOnChangeCallback(on_change)
