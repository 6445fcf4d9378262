"""The losses once more, written from the papers with plain floats: what the fast ones are compared with.

Every function takes (settings, x, y, context): (N, C) arrays of logits and targets, and what comes from the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, exp, log
from typing import Any

import numpy as np

Formula = Callable[[dict[str, Any], np.ndarray, np.ndarray, 'Context'], np.ndarray]
FORMULAS: dict[str, Formula] = {}


@dataclass
class Context:
    """Training labels, epoch, and the estimates of RoleLoss."""

    labels: np.ndarray
    epoch: int = 0
    estimates: np.ndarray | None = None

    def positives(self) -> np.ndarray:
        return (self.labels == 1).sum(0)

    def negatives(self) -> np.ndarray:
        return (self.labels == 0).sum(0)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def formula(name: str) -> Callable[[Formula], Formula]:
    def keep(function: Formula) -> Formula:
        FORMULAS[name] = function
        return function

    return keep


def each(one: Callable[[float, float, int], float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A function of (logit, target, class) for every label."""
    return np.array([[one(float(x[n, c]), float(y[n, c]), c) for c in range(x.shape[1])] for n in range(len(x))])


def bce(x: float, y: float) -> float:
    return -y * log(sigmoid(x)) - (1 - y) * log(sigmoid(-x))


def per_class(value: Any, count: int) -> list[float]:
    return [1.0] * count if value is None else [float(v) for v in np.broadcast_to(value, count)]


@formula('CrossEntropyLoss')
def cross_entropy(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    weight, pos = cfg.get('class_weight'), cfg.get('pos_weight')
    if weight == 'balanced':
        inverse = 1 / context.positives()
        weight = inverse / inverse.mean()
    if pos == 'auto':
        pos = context.negatives() / context.positives()
    weight, pos = per_class(weight, x.shape[1]), per_class(pos, x.shape[1])
    if cfg.get('use_sigmoid'):
        return np.where(
            y < 0,
            0,
            each(lambda v, t, c: weight[c] * (-pos[c] * t * log(sigmoid(v)) - (1 - t) * log(sigmoid(-v))), x, y),
        )
    y = np.maximum(y, 0)
    if cfg.get('use_softmax'):
        y = np.array([row / row.sum() if row.sum() else row for row in y])
    return -y * (x - np.log(np.exp(x).sum(1, keepdims=True))) * np.array(weight)


@formula('WeightedBCELoss')
def weighted_bce(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    w_pos, w_neg = cfg.get('w_pos', 1.0), cfg.get('w_neg', 0.5)
    return each(lambda v, t, c: 0 if t < 0 else -w_pos * t * log(sigmoid(v)) - w_neg * (1 - t) * log(sigmoid(-v)), x, y)


@formula('MultiLabelSoftMarginLoss')
def soft_margin(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    weight = per_class(cfg.get('weight'), x.shape[1])
    return each(lambda v, t, c: 0 if t < 0 else weight[c] * bce(v, t), x, y).mean(1)


@formula('LabelSmoothLoss')
def label_smooth(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    smooth, mode = cfg.get('label_smooth_val', 0.1), cfg.get('mode', 'multi_label')
    if mode == 'classy_vision':
        smooth = smooth / (1 + smooth)
    low = smooth if mode == 'multi_label' else smooth / x.shape[1]
    high = 1 - smooth if mode == 'multi_label' else 1 - smooth + smooth / x.shape[1]
    return each(lambda v, t, c: 0 if t < 0 else bce(v, t * high + (1 - t) * low), x, y)


@formula('FocalLoss')
def focal(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    gamma, alpha = cfg.get('gamma', 2.0), cfg.get('alpha', 0.25)

    def one(v: float, t: float, c: int) -> float:
        p = sigmoid(v)
        return -t * alpha * (1 - p) ** gamma * log(p) - (1 - t) * (1 - alpha) * p**gamma * log(1 - p)

    return np.where(y < 0, 0, each(one, x, y))


def asymmetric_one(v: float, t: float, g_pos: float, g_neg: float, clip: float) -> float:
    p = sigmoid(v)
    q = max(p - clip, 0.0)
    return -t * (1 - p) ** g_pos * log(p) - (1 - t) * q**g_neg * log(1 - q)


@formula('AsymmetricLoss')
def asymmetric(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    settings = cfg.get('gamma_pos', 0), cfg.get('gamma_neg', 4), cfg.get('clip', 0.05)
    return np.where(y < 0, 0, each(lambda v, t, c: asymmetric_one(v, t, *settings), x, y))


@formula('ClassBalancedLoss')
def class_balanced(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    beta, gamma = cfg.get('beta', 0.9), cfg.get('gamma', 0.0)
    weight = np.array([(1 - beta) / (1 - beta**n) for n in context.positives().tolist()])
    both_one = focal({'gamma': gamma, 'alpha': 0.5}, x, y, context) * 2
    return weight / weight.mean() * both_one


@formula('DistributionBalancedLoss')
def distribution_balanced(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    scale, mu, gamma = cfg.get('neg_scale', 2.0), cfg.get('mu', 0.2), cfg.get('gamma', 2.0)
    n, total = context.positives(), context.positives() + context.negatives()
    loss = np.zeros_like(x)
    for image, row in enumerate(y):
        owed = sum(row[c] / n[c] for c in range(len(row)) if row[c] > 0)
        for c, t in enumerate(row):
            if t < 0:
                continue
            weight = 0.1 + (sigmoid(10.0 * (1 / n[c] / owed - mu)) if owed else 1.0)
            z = x[image, c] - log(total[c] / n[c] - 1) * 0.05 / scale
            p, q = sigmoid(z), sigmoid(scale * z)
            loss[image, c] = weight * (
                -t * (1 - p) ** gamma * log(p) - (1 - t) / scale * q**gamma * log(sigmoid(-scale * z))
            )
    return loss


@formula('HillLoss')
def hill(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    lamb, margin, gamma = cfg.get('lamb', 1.5), cfg.get('margin', 1.0), cfg.get('gamma', 2.0)

    def one(v: float, t: float, c: int) -> float:
        p, shifted = sigmoid(v), sigmoid(v - margin)
        return -t * (1 - shifted) ** gamma * log(shifted) + (1 - t) * (lamb - p) * p**2

    return np.where(y < 0, 0, each(one, x, y))


def parts(cfg: dict[str, Any], t: float) -> tuple[float, float, float]:
    """How much of a target is positive, verified negative, unobserved."""
    looked_at = cfg.get('unknown') == 'unobserved'
    if t < 0:
        return 0.0, 0.0, float(looked_at)
    return (t, 1 - t, 0.0) if looked_at else (t, 0.0, 1 - t)


@formula('FocalMarginLoss')
def focal_margin(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    margin, gamma = cfg.get('margin', 1.0), cfg.get('gamma', 2.0)
    tau = cfg.get('tau', 0.6) if context.epoch >= cfg.get('change_epoch', 1) else 2.0

    def one(v: float, t: float, c: int) -> float:
        positive, negative, unobserved = parts(cfg, t)
        p, shifted = sigmoid(v), sigmoid(v - margin)
        as_negative = -(p**gamma) * log(1 - p)
        as_found = -((1 - p) ** gamma) * log(p) if p > tau else as_negative
        as_positive = -((1 - shifted) ** gamma) * log(shifted)
        return positive * as_positive + negative * as_negative + unobserved * as_found

    return each(one, x, y)


@formula('SPLCLoss')
def splc(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    return focal_margin({'tau': 0.6, **cfg}, x, y, context)


@formula('LargeLoss')
def large_loss(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    """Of the first step of an epoch, with nothing flipped before."""
    mode, delta = cfg.get('mode', 'reject'), cfg['delta_rel']
    loss = each(lambda v, t, c: bce(v, max(t, 0)) * (sum(parts(cfg, t)) > 0), x, y)
    if context.epoch:
        count = ceil(round(x.size * delta * (1 if mode == 'correct_permanent' else context.epoch), 9))
        unobserved = [(n, c) for n, c in np.ndindex(x.shape) if parts(cfg, y[n, c])[2] == 1]
        for n, c in sorted(unobserved, key=lambda place: -loss[place])[:count]:
            loss[n, c] = 0 if mode == 'reject' else -log(sigmoid(x[n, c]))
    return loss


@formula('EntropyMaximizationLoss')
def entropy_maximization(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    def one(v: float, t: float, c: int) -> float:
        positive, negative, unobserved = parts(cfg, t)
        p = sigmoid(v)
        entropy = -p * log(p) - (1 - p) * log(1 - p)
        return -positive * log(p) - negative * log(1 - p) - cfg.get('alpha', 0.1) * unobserved * entropy

    return each(one, x, y)


@formula('WeakAssumeNegativeLoss')
def weak_assume_negative(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    weight = cfg.get('gamma', 1 / (x.shape[1] - 1))

    def one(v: float, t: float, c: int) -> float:
        positive, negative, unobserved = parts(cfg, t)
        return -positive * log(sigmoid(v)) - (negative + weight * unobserved) * log(sigmoid(-v))

    return each(one, x, y)


@formula('RoleLoss')
def role(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    expected = cfg.get('expected_positives', (context.labels == 1).sum() / len(context.labels))
    estimates = context.estimates[: len(x)]

    def penalty(logits: np.ndarray) -> float:
        # Labels that are ignored have no probability to be counted.
        counts = [sum(sigmoid(v) * sum(parts(cfg, t)) for v, t in zip(row, labels)) for row, labels in zip(logits, y)]
        return (sum(counts) / len(counts) - expected) ** 2 / logits.shape[1] ** 2

    def one(n: int, c: int) -> float:
        positive, negative, unobserved = parts(cfg, y[n, c])
        f, q = x[n, c], estimates[n, c]
        cross = bce(f, sigmoid(q)) + bce(q, sigmoid(f))
        seen = sum(-positive * log(sigmoid(v)) - negative * log(sigmoid(-v)) for v in (f, q))
        return (positive + negative + unobserved) * cross + seen

    loss = np.array([[one(n, c) for c in range(x.shape[1])] for n in range(len(x))])
    return 0.5 * (loss + cfg.get('epr_weight', 1.0) * (penalty(x) + penalty(estimates)))


@formula('PartialAsymmetricLoss')
def partial_asymmetric(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    """The authors set aside ``likelihood_topk`` labels an image, the most likely ones of the whole batch."""
    mode, clip = cfg.get('mode', 'selective'), cfg.get('clip', 0.0)
    gammas = [cfg.get(f'gamma_{side}', usual) for side, usual in (('pos', 0), ('neg', 1), ('unann', 4))]
    nobody = [(n, c) for n, c in np.ndindex(x.shape) if y[n, c] == -1]
    prior = context.positives() / (context.positives() + context.negatives())
    aside = sorted(nobody, key=lambda place: -x[place])[: cfg.get('likelihood_topk', 5) * len(x)]
    loss = each(lambda v, t, c: 0 if t < 0 else asymmetric_one(v, t, gammas[0], gammas[1], clip), x, y)
    for n, c in nobody:
        if mode == 'negative' or (mode == 'selective' and prior[c] <= 0.5 and (n, c) not in aside):
            loss[n, c] = asymmetric_one(x[n, c], 0, 0, gammas[2], clip)
    return loss


@formula('TwoWayLoss')
def two_way(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    t_pos, t_neg = cfg.get('t_pos', 4.0), cfg.get('t_neg', 1.0)

    def one_way(logits: np.ndarray, labels: np.ndarray) -> float:
        losses = []
        for row, marks in zip(logits, labels):
            positive = sum(t * exp(-v / t_pos) for v, t in zip(row, marks) if t > 0)
            negative = sum((1 - t) * exp(v / t_neg) for v, t in zip(row, marks) if t >= 0)
            if positive:
                losses.append(math.log1p(positive**t_pos * negative**t_neg))
        return sum(losses) / max(len(losses), 1)

    return np.array(one_way(x, y) + one_way(x.T, y.T))


@formula('ZLPRLoss')
def zlpr(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    return np.array(
        [
            log(1 + sum((1 - t) * exp(v) for v, t in zip(row, marks) if t >= 0))
            + log(1 + sum(t * exp(-v) for v, t in zip(row, marks) if t > 0))
            for row, marks in zip(x, y)
        ]
    )


@formula('WeightedSum')
def weighted_sum(cfg: dict[str, Any], x: np.ndarray, y: np.ndarray, context: Context) -> np.ndarray:
    return sum(
        factor * FORMULAS[part['type']](part, x, y, context)
        for factor, part in zip(cfg.get('weights', [1.0] * len(cfg['losses'])), cfg['losses'])
    )
