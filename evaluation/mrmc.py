"""Multi-reader multi-case ROC: empirical AUCs of a `ReaderStudy`, compared by Obuchowski-Rockette and its DBM form."""

from __future__ import annotations

from radserve.evaluation.mrmc_covariance import CovarianceMethod, auc_covariance
from radserve.evaluation.mrmc_study import ReaderStudy
from radserve.evaluation.obuchowski_rockette import obuchowski_rockette
from radserve.evaluation.or_result import Analysis, OrResult


def analyse_auc(
    study: ReaderStudy,
    *,
    covariance: CovarianceMethod = CovarianceMethod.JACKKNIFE,
    analysis: Analysis = Analysis.RANDOM,
    level: float = 0.95,
) -> OrResult:
    """Compare the treatments of a fully crossed study by the empirical AUC (ties count one half).

    With the jackknife covariance the F test equals Dorfman-Berbaum-Metz with Hillis' degrees of freedom.

    Raises:
        RadserveError: INVALID_ARGUMENT with fewer than two cases of a class, or a level outside (0, 1).
    """
    t, r, n = study.ratings.shape
    flat = study.ratings.reshape(t * r, n)
    auc, cov = auc_covariance(flat, study.truth, covariance)
    return obuchowski_rockette(
        auc.reshape(t, r),
        cov,
        treatments=study.treatments,
        readers=study.readers,
        n_cases=n,
        analysis=analysis,
        level=level,
    )
