"""What the time of training steps went to, from a trace of torch's profiler, and what to do about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

#: Names of the marks in a trace.
WAIT, STEP = 'mlcls: wait for data', 'mlcls: training step'
#: A share from which on it is worth mentioning beside the largest.
_NOTABLE = 0.2
_COPIES = frozenset({'gpu_memcpy'})
_KERNELS = frozenset({'kernel', 'gpu_memset'})
#: Start and end on one clock.
Span = tuple[float, float]


@dataclass(frozen=True)
class Shares:
    """What the time of a training step went to; the four shares add up to 1.

    Args:
        seconds: Length of a step, waiting included.
        data: Nothing was computed or copied, and the loop waited for the loader.
        copies: Copies to, from and on the GPU beside which nothing was computed; 0 on a CPU.
        compute: Kernels on a GPU, operations of torch on a CPU.
        host: All else: Python, hooks, launching.
        device: ``'cpu'`` or ``'cuda'``.
        workers: ``num_workers`` of the training loader.
        cores: CPU cores that this process may use.
    """

    seconds: float
    data: float
    copies: float
    compute: float
    host: float
    device: str = 'cpu'
    workers: int = 0
    cores: int = 1


@dataclass(frozen=True)
class Operation:
    """An operation, or kernel, by its own time.

    Args:
        name: As in the trace.
        seconds: Of all calls, without what they call in turn.
        calls: How many.
    """

    name: str
    seconds: float
    calls: int


def with_waiting(shares: Shares, data: float, seconds: float) -> Shares:
    """Shares in which waiting for data is known from elsewhere; the others keep their ratios.

    Args:
        shares: As traced.
        data: Share of waiting, 0 to 1.
        seconds: Length of a step.
    """
    data = min(max(data, 0.0), 1.0)
    others = shares.copies + shares.compute + shares.host
    if others <= 0:
        return replace(shares, seconds=seconds)
    scale = (1 - data) / others
    return replace(
        shares,
        seconds=seconds,
        data=data,
        copies=shares.copies * scale,
        compute=shares.compute * scale,
        host=shares.host * scale,
    )


def judge(shares: Shares) -> str:
    """What the run waits for, and what helps, in one line."""
    parts = {name: getattr(shares, name) for name in ('data', 'copies', 'compute', 'host')}
    percent = _percent(parts)
    line = (
        f'profile: of {1000 * shares.seconds:.1f} ms a step the loop waits {percent["data"]} % for data, '
        f'{percent["copies"]} % for copies, computes {percent["compute"]} %, host {percent["host"]} %'
    )
    order = sorted(parts, key=lambda name: -parts[name])
    words = {'data': 'the data loader', 'copies': 'copying', 'compute': 'computing', 'host': 'the host'}
    line += f': {words[order[0]]} is the limit; {_advice(order[0], shares)}'
    if parts[order[1]] >= _NOTABLE:
        line += f'; then {words[order[1]]}: {_advice(order[1], shares)}'
    return line


def _advice(limit: str, shares: Shares) -> str:
    if limit == 'data':
        smaller = 'store the images small (tools/pack_data.py)'
        if shares.workers >= shares.cores or shares.cores == 1:
            return f'{smaller}, or take cheaper transforms: all of the {shares.cores} core(s) are at work'
        if shares.workers == 0:
            return f'set train_dataloader.num_workers, now 0, to 1 to {shares.cores}, or {smaller}'
        return f'raise train_dataloader.num_workers from {shares.workers} up to {shares.cores}, or {smaller}'
    if limit == 'copies':
        return 'set train_dataloader.pin_memory=True, and let pictures go to the GPU as uint8'
    if limit == 'host':
        return (
            'raise train_dataloader.batch_size, compile the network (compile=True), or see which custom hooks take time'
        )
    if shares.device == 'cuda':
        return 'which is as it should be; mixed precision (--amp), channels_last=True and compile=True make it faster'
    return 'a GPU, smaller images or a smaller network make it faster'


def _percent(parts: Mapping[str, float]) -> dict[str, int]:
    """Whole percents that add up to 100: those with the largest remainders are rounded up."""
    total = sum(parts.values()) or 1.0
    exact = {name: 100 * value / total for name, value in parts.items()}
    found = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: found[name] - exact[name])[: 100 - sum(found.values())]:
        found[name] += 1
    return found


def read_trace(events: Iterable[Mapping[str, Any]]) -> tuple[Shares, list[Operation], int]:
    """Shares and the most expensive operations of the marked steps of a Chrome trace.

    Args:
        events: ``traceEvents``: complete events (``ph='X'``) with ``name``, ``cat``, ``ts`` and ``dur`` in
            microseconds, ``pid`` and ``tid``; others are not used.

    Returns:
        Shares, the operations (kernels, if there are any) with the most time of their own first, number of steps.

    Raises:
        ValueError: No step is marked.
    """
    complete = [event for event in events if event.get('ph') == 'X' and 'dur' in event]
    marks = [event for event in complete if event.get('cat') == 'user_annotation']
    waits = union(_span(event) for event in marks if event['name'] == WAIT)
    steps = [_span(event) for event in marks if event['name'] == STEP]
    if not steps:
        raise ValueError('the trace has no training step')
    window = (min(start for start, _ in [*waits, *steps]), max(end for _, end in steps))
    inside = [event for event in complete if event['ts'] + event['dur'] > window[0] and event['ts'] < window[1]]
    kernels, moved, ops = (
        union(clip((_span(event) for event in inside if event.get('cat') in cats), window))
        for cats in (_KERNELS, _COPIES, {'cpu_op'})
    )
    on_gpu = bool(kernels or moved)
    if on_gpu:
        compute, copies = kernels, subtract(moved, kernels)
        data = subtract(subtract(clip(waits, window), kernels), moved)
    else:  # operations in the loader of a process without workers are the loader's
        compute, copies, data = subtract(ops, waits), [], clip(waits, window)
    total = window[1] - window[0]
    waited, copied, computed = (length(spans) / total for spans in (data, copies, compute))
    shares = Shares(
        seconds=total / len(steps) / 1e6,
        data=waited,
        copies=copied,
        compute=computed,
        host=max(0.0, 1 - waited - copied - computed),
        device='cuda' if on_gpu else 'cpu',
    )
    cats = _KERNELS | _COPIES if on_gpu else {'cpu_op'}
    return shares, own_times(event for event in inside if event.get('cat') in cats), len(steps)


def own_times(events: Iterable[Mapping[str, Any]]) -> list[Operation]:
    """Time of each operation without that of the operations it calls; the most expensive first."""
    threads: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        threads[event.get('pid'), event.get('tid')].append(event)
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for thread in threads.values():
        open_events: list[tuple[float, str]] = []  # end and name
        for event in sorted(thread, key=lambda event: (event['ts'], -event['dur'])):
            start, end = _span(event)
            while open_events and open_events[-1][0] <= start:
                open_events.pop()
            if open_events:
                seconds[open_events[-1][1]] -= (min(end, open_events[-1][0]) - start) / 1e6
            seconds[event['name']] += (end - start) / 1e6
            calls[event['name']] += 1
            open_events.append((end, event['name']))
    found = [Operation(name, seconds[name], calls[name]) for name in seconds]
    return sorted(found, key=lambda each: (-each.seconds, each.name))


def summary(
    shares: Shares, operations: Sequence[Operation], steps: int, plain: Sequence[tuple[float, float]] = ()
) -> str:
    """The text of ``summary.txt``.

    Args:
        shares: What the time went to.
        operations: The most expensive first; ten are listed.
        steps: How many steps were recorded.
        plain: Seconds waited and in all of steps before the recording.
    """
    lines = [
        judge(shares),
        '',
        f'{steps} training steps recorded, on {"a GPU" if shares.device == "cuda" else "a CPU"}',
    ]
    if plain:
        before = 1000 * sum(total for _, total in plain) / len(plain)
        lines.append(f'{len(plain)} steps before them, without the profiler: {before:.2f} ms a step')
    lines += ['', 'share of the time']
    lines += [f'  {name:<8} {100 * getattr(shares, name):5.1f} %' for name in ('data', 'copies', 'compute', 'host')]
    total = sum(each.seconds for each in operations) or 1.0
    kind = 'kernels and copies' if shares.device == 'cuda' else 'operations'
    lines += ['', f'most expensive {kind}, without what they call', '  ms a step   share  calls a step  name']
    for each in operations[:10]:
        name = each.name if len(each.name) <= 90 else f'{each.name[:87]}...'
        share = 100 * each.seconds / total
        lines.append(f'  {1000 * each.seconds / steps:9.3f}  {share:4.1f} %  {each.calls / steps:12.1f}  {name}')
    lines += ['', 'trace.json.gz opens in https://ui.perfetto.dev and in chrome://tracing']
    return '\n'.join(lines) + '\n'


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans that overlap or touch made one; in order."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged


def clip(spans: Iterable[Span], window: Span) -> list[Span]:
    """The parts of spans inside a window."""
    cut = ((max(start, window[0]), min(end, window[1])) for start, end in spans)
    return [(start, end) for start, end in cut if end > start]


def subtract(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What of spans is in none of the others; both as `union` gives them."""
    left: list[Span] = []
    first = 0
    for start, end in spans:
        while first < len(others) and others[first][1] <= start:
            first += 1
        number = first
        while start < end and number < len(others) and others[number][0] < end:
            low, high = others[number]
            if low > start:
                left.append((start, low))
            start = max(start, high)
            number += 1
        if start < end:
            left.append((start, end))
    return left


def length(spans: Iterable[Span]) -> float:
    """Of spans that do not overlap, together."""
    return sum(end - start for start, end in spans)


def _span(event: Mapping[str, Any]) -> Span:
    return float(event['ts']), float(event['ts']) + float(event['dur'])
