"""ReviewService: what readers make of drafts."""

from __future__ import annotations

from radserve._checks import invalid
from radserve.dicom_io.index import StudyIndex
from radserve.findings import verdict
from radserve.pipelines.preferences import Decision, Review, ToldFinding, review_of
from radserve.server.reviews import ReviewStore, keep_review
from radserve.server.rpc.errors import Context, answered
from radserve.v1 import common_pb2, review_pb2, review_pb2_grpc

DECISIONS = {
    review_pb2.DECISION_ACCEPTED: Decision.ACCEPTED,
    review_pb2.DECISION_EDITED: Decision.EDITED,
    review_pb2.DECISION_REJECTED: Decision.REJECTED,
}


class ReviewService(review_pb2_grpc.ReviewServiceServicer):
    """Serves radserve.v1.ReviewService over the site's records."""

    def __init__(self, index: StudyIndex, reviews: ReviewStore) -> None:
        self._index = index
        self._reviews = reviews

    async def RecordReview(
        self, request: review_pb2.RecordReviewRequest, context: Context
    ) -> review_pb2.RecordReviewResponse:
        return await answered("RecordReview", context, self._record(request))

    async def _record(self, request: review_pb2.RecordReviewRequest) -> review_pb2.RecordReviewResponse:
        review = review_from_message(request)
        await keep_review(review, self._index, self._reviews)
        return review_pb2.RecordReviewResponse(review_id=review.id)


def review_from_message(request: review_pb2.RecordReviewRequest) -> Review:
    """Raises RadserveError INVALID_ARGUMENT for a request that cannot be."""
    if request.decision not in DECISIONS:
        raise invalid("decision", int(request.decision), "accepted, edited or rejected")
    result = request.result
    return review_of(
        result.study_instance_uid,
        f"{result.pack.name} {result.pack.version}",
        [_told(finding) for finding in result.findings],
        {section.name: section.text for section in result.report.sections},
        DECISIONS[request.decision],
        {section.name: section.text for section in request.final},
        result.generation.language,
    )


def _told(finding: common_pb2.Finding) -> ToldFinding:
    measurements = tuple((each.name.meaning, each.value, each.unit.value) for each in finding.measurements)
    state = verdict(positive=finding.positive, cannot_assess=finding.cannot_assess)
    return ToldFinding(finding.region.series_instance_uid, finding.label, state, measurements)
