"""Every measure against scikit-learn and torchmetrics, to 1e-6, wherever they define the same quantity.

| measure | scikit-learn | torchmetrics | defined otherwise on purpose |
|---|---|---|---|
| CP, CR | `precision_score`, `recall_score` (macro, `zero_division=0`) | the same, macro | empty denominators count as 0 in all three, as in the papers |
| OP, OR, OF1 | the same, micro | the same, micro | |
| CF1 | - | - | harmonic mean of CP and CR; no peer has it |
| macro_F1 | `f1_score` (macro, `zero_division=0`) | `multilabel_f1_score` (macro) | as CP |
| AP, mAP | `average_precision_score` | `multilabel_average_precision` | a class without a positive: NaN and left out of mAP here; 0 with a warning in scikit-learn |
| AP by VOC07 and VOC10 | - | - | no peer; compared with their definition in `test_average_precision.py` |
| LRAP, coverage, ranking_loss | `label_ranking_average_precision_score`, `coverage_error`, `label_ranking_loss` | `multilabel_ranking_average_precision`, `multilabel_coverage_error`, `multilabel_ranking_loss` | images without a positive (loss: or without a negative) are left out here; the peers give them the best value |
| one_error, precision@k, recall@k | - | `retrieval_hit_rate`, `retrieval_precision`, `retrieval_recall` (image by image) | ties: the mean over all orders here; torchmetrics takes any one order |
| nDCG@k | `ndcg_score` | `retrieval_normalized_dcg` (image by image) | images without a positive are left out here; 0 in the peers |
| subset_accuracy | `accuracy_score` | `multilabel_exact_match` | an image without a known label is left out here, and right in torchmetrics |
| hamming_loss | `hamming_loss` | `multilabel_hamming_distance` (micro) | |
| jaccard | `jaccard_score` (samples, `zero_division=1`) | - | |
| AUROC, macro, micro | `roc_auc_score` | `multilabel_auroc` | a class without positives or negatives: NaN here; 0 with a warning in torchmetrics |
| ECE, MCE | from `calibration_curve` | `binary_calibration_error` (l1, max) | bins are open below, as in Guo et al. and scikit-learn; those of torchmetrics are open above |
| Brier | `brier_score_loss` | `mean_squared_error` | times 100 here |

Peers know no unknown labels or treat them in their own way. So they get the known rows of each class, the known labels of
each image or the known pairs of both. Everything here is compared as a fraction, not in percent.
"""  # noqa: E501

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.functional as tmf
import torchmetrics.functional.classification as tm
import torchmetrics.functional.retrieval as tmr
from sklearn.calibration import calibration_curve

from mlcls.errors import DataError
from mlcls.evaluation import functional as F
from mlcls.evaluation.metrics import (
    AUROCMetric,
    AveragePrecision,
    CalibrationMetric,
    ExactMatchMetric,
    FrequencyGroupMetric,
    Metric,
    RankingMetric,
    ThresholdMetric,
)

TOLERANCE = 1e-6
THR = 0.3
BINS = 10
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Case:
    """``scores`` in the type that is tested; peers get ``exact``, the same values as float64."""

    name: str
    scores: torch.Tensor
    targets: torch.Tensor

    @property
    def exact(self) -> Array:
        return self.scores.double().numpy()

    @property
    def labels(self) -> Array:
        return self.targets.numpy()

    @property
    def decisions(self) -> Array:
        """Compared in the type of the scores, half types in float32."""
        if self.scores.dtype == torch.float64:
            return self.exact >= THR
        return self.scores.float().numpy() >= np.float32(THR)

    def classes(self) -> Iterator[tuple[Array, Array, Array]]:
        """Labels, scores and decisions of the known rows of each class that has any."""
        for c in range(self.labels.shape[1]):
            known = self.labels[:, c] >= 0
            if known.any():
                yield self.labels[known, c], self.exact[known, c], self.decisions[known, c]

    def images(self) -> Iterator[tuple[Array, Array, Array]]:
        """The same of each image."""
        for labels, scores, decisions in zip(self.labels, self.exact, self.decisions):
            known = labels >= 0
            if known.any():
                yield labels[known], scores[known], decisions[known]

    def pairs(self) -> tuple[Array, Array, Array]:
        known = self.labels >= 0
        return self.labels[known], self.exact[known], self.decisions[known]


def make_case(kind: str, dtype: torch.dtype, ties: str) -> Case:
    random = np.random.default_rng([len(kind), ord(kind[0]), len(ties)])
    images, classes = {'one class': (23, 1), 'one image': (1, 7), 'wide': (5, 9)}.get(kind, (12, 5))
    scores = random.random((images, classes))
    if ties == 'ties':  # steps of 1/8 are exact in every type, and no edge of the ten bins but 0, 0.5 and 1
        scores = np.round(8 * scores) / 8
    labels = (random.random((images, classes)) < 0.1 + 0.6 * scores).astype(np.int8)
    if kind == 'unknown':
        labels[random.random(labels.shape) < 0.3] = -1
    if kind == 'absent':
        labels[:, 0], labels[:, 1] = 0, 1
        labels[:5] = 0  # images without a label
        scores[:3] = 0.125  # and without a decision
    if kind == 'blank':
        labels[:, 2], labels[4] = -1, -1
    if kind == 'no decision':
        scores[:, 3] = scores[:, 3] / 8
    return Case(f'{kind}, {ties}, {dtype}', torch.from_numpy(scores).to(dtype), torch.from_numpy(labels))


KINDS = ['full', 'wide', 'unknown', 'absent', 'blank', 'no decision', 'one class', 'one image']
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CASES = [make_case(kind, dtype, 'free') for kind in KINDS for dtype in DTYPES]
CASES += [make_case(kind, DTYPES[position % 4], 'ties') for position, kind in enumerate(KINDS)]


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def tied(case: Case) -> bool:
    """Whether an image has two known labels of the same score."""
    return any(len(set(scores)) < len(scores) for _, scores, _ in case.images())


def tensors(*arrays: Array) -> list[torch.Tensor]:
    """Scores as float64, labels and decisions as int64, for torchmetrics."""
    return [torch.from_numpy(a.astype(np.float64 if a.dtype == np.float64 else np.int64)) for a in arrays]


def over_classes(measure: Callable[[Array, Array, Array], float]) -> Callable[[Case], float]:
    return lambda case: mean([measure(*each) for each in case.classes()])


def over_images(
    measure: Callable[[Array, Array, Array], float], negatives: bool = False, positives: bool = True
) -> Callable[[Case], float]:
    """Mean over the images that have a known positive (and a known negative)."""
    return lambda case: mean(
        [
            measure(*each)
            for each in case.images()
            if ((each[0] == 1).any() or not positives) and ((each[0] == 0).any() or not negatives)
        ]
    )


def over_pairs(measure: Callable[[Array, Array, Array], float]) -> Callable[[Case], float]:
    return lambda case: measure(*case.pairs())


def both(labels: Array) -> bool:
    return len(set(labels.tolist())) == 2


# ------------------------------------------------------------------------------------------ ours, as fractions
_RANKING = RankingMetric(k=1)


def threshold(name: str) -> Callable[[Case], float]:
    metric = ThresholdMetric(thr=THR)
    return lambda case: metric.compute(case.scores, case.targets).numbers[f'multi-label/{name}'] / 100


def matched(name: str) -> Callable[[Case], float]:
    metric = ExactMatchMetric(thr=THR)
    return lambda case: metric.compute(case.scores, case.targets).numbers[f'multi-label/{name}'] / 100


def ranked(name: str, k: int = 1, unit: float = 100) -> Callable[[Case], float]:
    return lambda case: F.ranking_measures(case.scores, case.targets, (k,))[name] / unit


def per_class(measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Case], Array]:
    """Of the classes that have a known label."""
    return lambda case: measure(case.scores, case.targets).numpy()[(case.labels >= 0).any(axis=0)] / 100


# ------------------------------------------------------------------------------------------ the peers
def sk_ap(labels: Array, scores: Array, _: Array) -> float:
    return sk.average_precision_score(labels, scores) if labels.any() else math.nan


def sk_auroc(labels: Array, scores: Array, _: Array | None = None) -> float:
    return sk.roc_auc_score(labels, scores) if both(labels) else math.nan


def tm_ap(labels: Array, scores: Array, _: Array) -> float:
    predictions, targets = tensors(scores, labels)
    return float(tm.binary_average_precision(predictions, targets)) if labels.any() else math.nan


def tm_auroc(labels: Array, scores: Array, _: Array | None = None) -> float:
    return float(tm.binary_auroc(*tensors(scores, labels))) if both(labels) else math.nan


def every(measure: Callable[[Array, Array, Array], float]) -> Callable[[Case], Array]:
    return lambda case: np.array([measure(*each) for each in case.classes()])


def defined(measure: Callable[[Array, Array, Array], float]) -> Callable[[Case], float]:
    return lambda case: mean([value for value in every(measure)(case) if not math.isnan(value)])


def sk_bins(labels: Array, scores: Array) -> tuple[Array, Array]:
    """Distance of score and frequency in each bin that is not empty, and its size."""
    share, score = calibration_curve(labels, scores, n_bins=BINS)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores), minlength=BINS)
    return np.abs(share - score), counts[counts > 0]


def sk_ece(labels: Array, scores: Array, _: Array) -> float:
    distance, counts = sk_bins(labels, scores)
    return float((distance * counts).sum() / len(labels))


def sk_mce(labels: Array, scores: Array, _: Array) -> float:
    return float(sk_bins(labels, scores)[0].max())


def tm_calibration(norm: str) -> Callable[[Array, Array, Array], float]:
    return lambda labels, scores, _: float(tm.binary_calibration_error(*tensors(scores, labels), BINS, norm))


def on_an_edge(case: Case) -> bool:
    return bool(np.isin(case.exact, np.linspace(0, 1, BINS + 1)).any())


def padded(scores: Array, labels: Array) -> tuple[Array, Array]:
    """One image for functions that refuse a single label: a negative that comes last changes no measure of ranking."""
    if labels.size == 1:
        scores, labels = np.append(scores, -1.0), np.append(labels, 0)
    return scores[None], labels[None]


def row(measure: Callable[..., float]) -> Callable[[Array, Array, Array], float]:
    """One image for a scikit-learn function of ranking."""

    def call(labels: Array, scores: Array, _: Array) -> float:
        scores, labels = padded(scores, labels)
        return float(measure(labels, scores))

    return call


def tm_row(measure: Callable[..., torch.Tensor]) -> Callable[[Array, Array, Array], float]:
    def call(labels: Array, scores: Array, _: Array) -> float:
        predictions, targets = tensors(*padded(scores, labels))
        return float(measure(predictions, targets, num_labels=targets.shape[1]))

    return call


def tm_top(measure: Callable[..., torch.Tensor], k: int) -> Callable[[Array, Array, Array], float]:
    return lambda labels, scores, _: float(measure(*tensors(scores, labels), top_k=min(k, labels.size)))


def sk_ndcg(k: int) -> Callable[[Array, Array, Array], float]:
    # It refuses a single label, which any order puts first.
    return lambda labels, scores, _: 1.0 if labels.size == 1 else float(sk.ndcg_score(labels[None], scores[None], k=k))


def counted(measure: Callable[..., float]) -> Callable[[Array, Array, Array], float]:
    return lambda labels, _, decisions: float(measure(labels, decisions, zero_division=0))


def tm_counted(measure: Callable[..., torch.Tensor]) -> Callable[[Array, Array, Array], float]:
    def call(labels: Array, _: Array, decisions: Array) -> float:
        predictions, targets = tensors(decisions, labels)
        return float(measure(predictions, targets))

    return call


def tm_matched(case: Case) -> float:
    """With its own rule for unknown labels; images without a known one are taken out."""
    rows = (case.labels >= 0).any(axis=1)
    decisions, labels = tensors(case.decisions[rows], case.labels[rows])
    if labels.shape[1] == 1:
        return math.nan  # it knows no single label
    return float(tm.multilabel_exact_match(decisions, labels, num_labels=labels.shape[1], ignore_index=-1))


def sk_jaccard(labels: Array, _: Array, decisions: Array) -> float:
    # It refuses a single label; one that is neither present nor decided is in neither set.
    sets = (np.append(each.astype(int), 0)[None] for each in (labels, decisions))
    return float(sk.jaccard_score(*sets, average='samples', zero_division=1))


@dataclass(frozen=True, eq=False)
class Measure:
    """Ours and the peers'; ``skip`` tells in which cases torchmetrics defines it otherwise."""

    ours: Callable[[Case], Array | float]
    sklearn: Callable[[Case], Array | float] | None = None
    torchmetrics: Callable[[Case], Array | float] | None = None
    skip: Callable[[Case], bool] = lambda case: False


def cf1(case: Case) -> float:
    """From the two means of scikit-learn."""
    cp, cr = (over_classes(counted(each))(case) for each in (sk.precision_score, sk.recall_score))
    return 2 * cp * cr / (cp + cr) if cp + cr else 0.0


def micro_f1(labels: Array, _: Array, decisions: Array) -> float:
    return float(sk.f1_score(labels, decisions, zero_division=0))


def bins_of(measure: Callable[[F.ReliabilityBins], torch.Tensor]) -> Callable[[Case], Array]:
    return per_class(lambda scores, targets: measure(F.reliability_bins(scores, targets, BINS)))


MEASURES: dict[str, Measure] = {
    'CP': Measure(
        threshold('CP'), over_classes(counted(sk.precision_score)), over_classes(tm_counted(tm.binary_precision))
    ),
    'CR': Measure(threshold('CR'), over_classes(counted(sk.recall_score)), over_classes(tm_counted(tm.binary_recall))),
    'CF1': Measure(threshold('CF1'), cf1),
    'macro_F1': Measure(
        threshold('macro_F1'), over_classes(counted(sk.f1_score)), over_classes(tm_counted(tm.binary_f1_score))
    ),
    'OP': Measure(
        threshold('OP'), over_pairs(counted(sk.precision_score)), over_pairs(tm_counted(tm.binary_precision))
    ),
    'OR': Measure(threshold('OR'), over_pairs(counted(sk.recall_score)), over_pairs(tm_counted(tm.binary_recall))),
    'OF1': Measure(threshold('OF1'), over_pairs(micro_f1), over_pairs(tm_counted(tm.binary_f1_score))),
    'AP': Measure(per_class(F.average_precision), every(sk_ap), every(tm_ap)),
    'mAP': Measure(
        lambda case: F.mean_average_precision(F.average_precision(case.scores, case.targets)) / 100,
        defined(sk_ap),
        defined(tm_ap),
    ),
    'LRAP': Measure(
        ranked('LRAP'),
        over_images(row(sk.label_ranking_average_precision_score)),
        over_images(tm_row(tm.multilabel_ranking_average_precision)),
    ),
    'coverage': Measure(
        ranked('coverage', unit=1),
        over_images(row(sk.coverage_error)),
        over_images(tm_row(tm.multilabel_coverage_error)),
    ),
    'ranking_loss': Measure(
        ranked('ranking_loss'),
        over_images(row(sk.label_ranking_loss), negatives=True),
        over_images(tm_row(tm.multilabel_ranking_loss), negatives=True),
        skip=tied,  # it breaks ties by position
    ),
    'one_error': Measure(
        ranked('one_error'),
        None,
        lambda case: 1 - over_images(tm_top(tmr.retrieval_hit_rate, 1))(case),
        skip=tied,
    ),
    **{
        f'{name}@{k}': Measure(
            ranked(f'{name}@{k}', k),
            over_images(sk_ndcg(k)) if name == 'nDCG' else None,
            over_images(tm_top(measure, k)),
            # At most as many labels as there are can be asked of torchmetrics, and k is the divisor of precision.
            skip=lambda case, k=k, name=name: (
                tied(case) or (name == 'precision' and any(labels.size < k for labels, *_ in case.images()))
            ),
        )
        for k in (1, 3)
        for name, measure in {
            'precision': tmr.retrieval_precision,
            'recall': tmr.retrieval_recall,
            'nDCG': tmr.retrieval_normalized_dcg,
        }.items()
    },
    'subset_accuracy': Measure(
        matched('subset_accuracy'),
        over_images(lambda labels, _, decisions: float((labels == decisions).all()), positives=False),
        tm_matched,
        skip=lambda case: case.labels.shape[1] == 1,  # it refuses a single label
    ),
    'hamming_loss': Measure(
        matched('hamming_loss'),
        over_pairs(lambda labels, _, decisions: float(sk.hamming_loss(labels, decisions))),
        over_pairs(tm_counted(tm.binary_hamming_distance)),
    ),
    'jaccard': Measure(matched('jaccard'), over_images(sk_jaccard, positives=False)),
    'AUROC': Measure(per_class(F.auroc), every(sk_auroc), every(tm_auroc)),
    'AUROC_macro': Measure(
        lambda case: F.mean_auroc(F.auroc(case.scores, case.targets)) / 100, defined(sk_auroc), defined(tm_auroc)
    ),
    'AUROC_micro': Measure(
        lambda case: F.micro_auroc(case.scores, case.targets) / 100, over_pairs(sk_auroc), over_pairs(tm_auroc)
    ),
    'ECE': Measure(bins_of(F.expected_calibration_error), every(sk_ece), every(tm_calibration('l1')), skip=on_an_edge),
    'MCE': Measure(bins_of(F.maximum_calibration_error), every(sk_mce), every(tm_calibration('max')), skip=on_an_edge),
    'Brier': Measure(
        per_class(F.brier_score),
        every(lambda labels, scores, _: float(sk.brier_score_loss(labels, scores, pos_label=1))),
        every(
            lambda labels, scores, _: float(
                tmf.mean_squared_error(torch.from_numpy(scores), torch.from_numpy(labels.astype(np.float64)))
            )
        ),
    ),
}


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_every_measure_against_both_peers(case: Case) -> None:
    compared = 0
    for name, measure in MEASURES.items():
        found = np.asarray(measure.ours(case))
        for peer in ('sklearn', 'torchmetrics'):
            theirs = getattr(measure, peer)
            if theirs is None or (peer == 'torchmetrics' and measure.skip(case)):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of classes and images with one kind of label
                expected = np.asarray(theirs(case))
            np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0, err_msg=f'{name} beside {peer}')
            compared += bool(np.isfinite(expected).any())
    assert compared >= 20, 'too little was compared for this test to mean anything'


def test_every_measure_meets_every_peer_that_has_it() -> None:
    """No rule of ``skip`` hides a peer altogether."""
    for name, measure in MEASURES.items():
        assert measure.sklearn or measure.torchmetrics, name
        if measure.torchmetrics:
            met = {case.scores.dtype for case in CASES if not measure.skip(case)}
            # In bfloat16 forty scores are never all different, but seven are.
            assert met == set(DTYPES), (name, met)


@pytest.mark.parametrize('dtype', DTYPES)
def test_the_multilabel_functions_of_the_peers_agree_too(dtype: torch.dtype) -> None:
    """The tester above goes class by class; on complete labels the peers' own averages must be the same."""
    random = np.random.default_rng(5)
    scores = torch.from_numpy(random.random((60, 4))).to(dtype)
    targets = torch.from_numpy((random.random((60, 4)) < 0.4).astype(np.int8))
    exact, labels = scores.double(), targets.long()
    found = {
        **AUROCMetric().compute(scores, targets).numbers,
        **AveragePrecision().compute(scores, targets).numbers,
        **ThresholdMetric().compute(scores, targets).numbers,
        **ExactMatchMetric().compute(scores, targets).numbers,
    }
    decided = (exact >= 0.5).long()
    expected = {
        'AUROC_macro': (sk.roc_auc_score(labels, exact), tm.multilabel_auroc(exact, labels, 4)),
        'AUROC_micro': (
            sk.roc_auc_score(labels, exact, average='micro'),
            tm.multilabel_auroc(exact, labels, 4, average='micro'),
        ),
        'mAP': (sk.average_precision_score(labels, exact), tm.multilabel_average_precision(exact, labels, 4)),
        'macro_F1': (sk.f1_score(labels, decided, average='macro'), tm.multilabel_f1_score(decided, labels, 4)),
        'OF1': (
            sk.f1_score(labels, decided, average='micro'),
            tm.multilabel_f1_score(decided, labels, 4, average='micro'),
        ),
        'CP': (sk.precision_score(labels, decided, average='macro'), tm.multilabel_precision(decided, labels, 4)),
        'subset_accuracy': (sk.accuracy_score(labels, decided), tm.multilabel_exact_match(decided, labels, 4)),
        'hamming_loss': (sk.hamming_loss(labels, decided), tm.multilabel_hamming_distance(decided, labels, 4)),
        'jaccard': (sk.jaccard_score(labels, decided, average='samples', zero_division=1),),
    }
    for name, peers in expected.items():
        for peer in peers:
            assert found[f'multi-label/{name}'] / 100 == pytest.approx(float(peer), abs=TOLERANCE), name


def test_where_definitions_differ_on_purpose() -> None:
    """The last column of the table, so that it stays true of the peers that are installed."""
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.2, 0.8, 0.3], [0.7, 0.4, 0.2]], dtype=torch.float64)
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.int8)
    labels, decided = targets.long(), (scores >= 0.5).long()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        # The third class has neither positives nor decisions: precision 0 in all three.
        ours = ThresholdMetric().compute(scores, targets).numbers['multi-label/CP'] / 100
        assert ours == pytest.approx(0.5) == sk.precision_score(labels, decided, average='macro', zero_division=0)
        assert float(tm.multilabel_precision(decided, labels, 3)) == pytest.approx(0.5)
        # It has no AP: NaN here, 0 in scikit-learn.
        assert (
            math.isnan(F.average_precision(scores, targets)[2])
            and sk.average_precision_score(labels[:, 2], scores[:, 2]) == 0
        )
        assert math.isnan(F.auroc(scores, targets)[2]) and float(tm.binary_auroc(scores[:, 2], labels[:, 2])) == 0
        # The third image has no positive: left out here, perfect in scikit-learn.
        assert F.ranking_measures(scores, targets)['coverage'] == 1.0
        assert sk.coverage_error(labels, scores) == pytest.approx(2 / 3)
        # An image without positives and decisions: 100 here, 0 by scikit-learn's default.
        nothing = F.image_counts(torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 3))
        assert F.exact_match(nothing).jaccard == 100.0
        assert sk.jaccard_score(np.zeros((1, 3), int), np.zeros((1, 3), int), average='samples') == 0.0
        # An image without a known label: left out here, right in torchmetrics.
        counts = F.image_counts(torch.ones(2, 2, dtype=torch.bool), torch.tensor([[0, 1], [-1, -1]]))
        assert (F.exact_match(counts).subset_accuracy, F.exact_match(counts).left_out) == (0.0, 1)
        assert (
            float(tm.multilabel_exact_match(torch.ones(2, 2), torch.tensor([[0, 1], [-1, -1]]), 2, ignore_index=-1))
            == 0.5
        )
        # A score on an edge belongs to the bin below here.
        bins = F.reliability_bins(torch.tensor([[0.5]]), torch.tensor([[1]]), 2)
        assert bins.count.tolist() == [[1, 0]]


NOTHING: list[tuple[Metric, str]] = [
    (ThresholdMetric(), 'no label is known'),
    (AveragePrecision(), 'mAP is not defined'),
    (RankingMetric(k=1), 'label ranking is not defined'),
    (ExactMatchMetric(), 'subset accuracy is not defined'),
    (AUROCMetric(), 'AUROC_macro is not defined'),
    (AUROCMetric('micro'), 'AUROC_micro is not defined'),
    (CalibrationMetric(), 'calibration is not defined'),
]


@pytest.mark.parametrize(('metric', 'message'), NOTHING, ids=lambda value: getattr(type(value), '__name__', ''))
@pytest.mark.parametrize('images', [0, 4])
def test_nothing_known_is_an_error(metric: Metric, message: str, images: int) -> None:
    scores, targets = torch.rand(images, 2), torch.full((images, 2), -1, dtype=torch.int8)
    with pytest.raises(DataError, match=message):
        metric.compute(scores, targets)


@pytest.mark.parametrize('images', [0, 4])
def test_functions_of_nothing_known_give_nan(images: int) -> None:
    scores, targets = torch.rand(images, 2), torch.full((images, 2), -1, dtype=torch.int8)
    bins = F.reliability_bins(scores, targets)
    for values in (
        F.average_precision(scores, targets),
        F.auroc(scores, targets),
        F.expected_calibration_error(bins),
        F.maximum_calibration_error(bins),
        F.expected_calibration_error(bins.pooled()),
        F.expected_calibration_error(F.equal_mass_bins(scores, targets)),
        F.brier_score(scores, targets),
    ):
        assert values.isnan().all()
    matches = F.exact_match(F.image_counts_from_scores(scores, targets))
    assert all(math.isnan(value) for value in matches[:3]) and matches[3:] == (0, images)
    assert all(math.isnan(value) for value in F.ranking_measures(scores, targets).values())
    assert math.isnan(F.micro_auroc(scores, targets)) and math.isnan(F.micro_auroc(scores.half(), targets))


def test_groups_of_nothing_known_give_nan() -> None:
    numbers = FrequencyGroupMetric(('mAP', 'CF1', 'ECE'), counts=[3, 300]).compute(
        torch.rand(4, 2), torch.full((4, 2), -1, dtype=torch.int8)
    ).numbers  # fmt: skip
    assert len(numbers) == 9 and all(math.isnan(value) for value in numbers.values())
