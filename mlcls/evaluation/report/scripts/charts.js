// Charts as inline SVG. Each is drawn for the width it has, so that its letters keep their size, and gives {node, move}:
// the drawing, and what to call when a threshold has moved.

const EDGE = { left: 44, right: 14, top: 14, bottom: 40 };
const round = (value) => Math.round(value * 100) / 100;
const line = (x1, y1, x2, y2, kind) =>
  s('line', { x1: round(x1), y1: round(y1), x2: round(x2), y2: round(y2), class: kind });
const label = (x, y, text, attributes) => s('text', { x: round(x), y: round(y), ...attributes }, text);
const UNIT = [0, 0.2, 0.4, 0.6, 0.8, 1].map((part) => [part, String(part)]);
const HUNDRED = UNIT.map(([part]) => [part, String(Math.round(100 * part))]);

// A drawing with axes, names and ticks [[place from 0 to 1, text]]; x(part) and y(part) are places in it.
function plot(width, { title, xName, yName, xTicks = UNIT, yTicks = HUNDRED }) {
  const height = Math.round(Math.min(300, Math.max(230, width * 0.72)));
  const inner = { width: width - EDGE.left - EDGE.right, height: height - EDGE.top - EDGE.bottom };
  const x = (part) => round(EDGE.left + part * inner.width);
  const y = (part) => round(EDGE.top + (1 - part) * inner.height);
  const svg = s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title });
  for (const [place, text] of xTicks) {
    svg.append(line(x(place), y(0), x(place), y(1), 'grid'));
    svg.append(label(x(place), y(0) + 15, text, { 'text-anchor': 'middle', class: 'soft' }));
  }
  for (const [place, text] of yTicks) {
    svg.append(line(x(0), y(place), x(1), y(place), 'grid'));
    svg.append(label(x(0) - 6, y(place) + 4, text, { 'text-anchor': 'end', class: 'soft' }));
  }
  svg.append(label(x(0.5), height - 6, xName, { 'text-anchor': 'middle' }));
  svg.append(label(11, y(0.5), yName, { 'text-anchor': 'middle', transform: `rotate(-90 11 ${y(0.5)})` }));
  const path = (points) => points.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a)} ${y(b)}`).join('');
  return { svg, x, y, inner, path };
}

// Draws into a place, and again when its width changes; gives an object whose move() is always that of the last drawing.
function drawInto(host, draw) {
  const chart = { move() {} };
  const widthOf = () => Math.min(640, Math.max(260, Math.floor(host.clientWidth) || 360));
  let width = 0;
  chart.draw = () => {
    width = widthOf();
    const { node, move } = draw(width);
    chart.move = move;
    host.replaceChildren(node);
  };
  new ResizeObserver(() => {
    if (host.clientWidth && widthOf() !== width) chart.draw();
  }).observe(host);
  chart.draw();
  return chart;
}

// Precision against recall over all steps of class c; a threshold with no decision has no precision and no point.
function precisionRecallChart(c, width) {
  const title = `Precision against recall of ${className(c)}`;
  const { svg, x, y, path } = plot(width, { title, xName: 'recall, %', yName: 'precision, %', xTicks: HUNDRED });
  const points = [];
  for (let k = 0; k <= K; k++) {
    const { tp, fp } = countsAt(c, k);
    if (tp + fp > 0) points.push([tp / Math.max(POSITIVES[c], 1), tp / (tp + fp)]);
  }
  const known = classes[c].positives + classes[c].negatives;
  const base = classes[c].positives / Math.max(known, 1);
  svg.append(line(x(0), y(base), x(1), y(base), 'guide'));
  if (points.length) svg.append(s('path', { d: path(points), class: 'curve', fill: 'none' }));
  const home = s('path', { class: 'home-mark' }, s('title', null, "the model's threshold"));
  const dot = s('circle', { r: 5.5, class: 'dot' });
  svg.append(home, dot);
  const place = (k) => {
    const { precision, recall } = classMeasures(countsAt(c, k));
    return [x(recall / 100), y(precision / 100), precision, recall];
  };
  const [left, top] = place(HOME);
  home.setAttribute('d', `M${left} ${top - 8}L${left + 8} ${top}L${left} ${top + 8}L${left - 8} ${top}Z`);
  const move = () => {
    const [cx, cy, precision, recall] = place(state.steps[c]);
    dot.setAttribute('cx', cx);
    dot.setAttribute('cy', cy);
    svg.setAttribute('aria-label', `${title}: now precision ${percent(precision)}, recall ${percent(recall)}`);
  };
  move();
  return { node: svg, move };
}

// How many of a hundred labels with such a score are present. Whiskers: Wilson's 95 % interval of the share.
function reliabilityChart(c, width) {
  const title = `Reliability of the scores of ${className(c)}`;
  const { svg, x, y, path } = plot(width, { title, xName: 'mean score', yName: 'share present, %' });
  svg.append(line(x(0), y(0), x(1), y(1), 'guide'));
  const filled = payload.reliability[c].filter(([all]) => all > 0);
  const most = Math.max(1, ...filled.map(([all]) => all));
  const joined = filled.map(([all, present, mean]) => [mean, present / all]);
  if (filled.length > 1) svg.append(s('path', { d: path(joined), class: 'curve thin', fill: 'none' }));
  for (const [all, present, mean] of filled) {
    const [low, high] = wilson(present, all);
    svg.append(line(x(mean), y(low), x(mean), y(high), 'whisker'));
    const text = `${count(present)} of ${count(all)} present (${percent(ratio(present, all))} %), mean score ${share(mean)}`;
    const dot = s('circle', {
      cx: x(mean),
      cy: y(present / all),
      r: round(2.5 + 4 * Math.sqrt(all / most)),
      class: 'point',
    });
    dot.append(s('title', null, text));
    svg.append(dot);
  }
  if (!filled.length) svg.append(label(x(0.5), y(0.5), 'no known label', { 'text-anchor': 'middle', class: 'soft' }));
  return { node: svg, move() {} };
}

function wilson(present, all) {
  const z = 1.959964;
  const p = present / all;
  const middle = (p + (z * z) / (2 * all)) / (1 + (z * z) / all);
  const half = (z * Math.sqrt((p * (1 - p)) / all + (z * z) / (4 * all * all))) / (1 + (z * z) / all);
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

// Counts of positives upwards and of negatives downwards in fifty bars, on a logarithmic scale.
const BARS = 50;
function histogramChart(c, width) {
  const bars = [new Array(BARS).fill(0), new Array(BARS).fill(0)];
  for (let sign = 0; sign < 2; sign++) {
    for (let k = 0; k <= K; k++) {
      bars[sign][Math.min(BARS - 1, Math.floor((k * BARS) / K))] += bins[c * 2 * WIDTH + sign * WIDTH + k];
    }
  }
  const decades = Math.max(1, Math.ceil(Math.log10(1 + Math.max(...bars[0], ...bars[1]))));
  const height = (value) => Math.log10(1 + value) / Math.log10(1 + 10 ** decades) / 2;
  const powers = Array.from({ length: decades }, (_, power) => 10 ** (power + 1));
  const brief = (value) => (value >= 1000 ? `${value / 1000}k` : String(value));
  const ticks = [
    [0.5, '0'],
    ...powers.flatMap((value) => [
      [0.5 + height(value), brief(value)],
      [0.5 - height(value), brief(value)],
    ]),
  ];
  const title = `Scores of the positives and negatives of ${className(c)}`;
  const { svg, x, y, inner } = plot(width, { title, xName: 'score', yName: 'labels (log scale)', yTicks: ticks });
  for (let sign = 0; sign < 2; sign++) {
    bars[sign].forEach((value, i) => {
      if (!value) return;
      const tall = height(value) * inner.height;
      const top = sign === 0 ? y(0.5) - tall : y(0.5);
      const text = `${plural(value, sign === 0 ? 'positive' : 'negative')} with a score from ${i / BARS} to ${(i + 1) / BARS}`;
      const shape = {
        x: round(x(i / BARS) + 0.4),
        y: round(top),
        width: round(inner.width / BARS - 0.8),
        height: round(tall),
      };
      svg.append(s('rect', { ...shape, class: sign === 0 ? 'positive' : 'negative' }, s('title', null, text)));
    });
  }
  svg.append(line(x(0), y(0.5), x(1), y(0.5), 'axis'));
  svg.append(label(x(1) - 4, y(1) + 12, 'positives', { 'text-anchor': 'end', class: 'halo' }));
  svg.append(label(x(1) - 4, y(0) - 6, 'negatives', { 'text-anchor': 'end', class: 'halo' }));
  const mark = line(0, y(0), 0, y(1), 'threshold');
  svg.append(mark);
  const move = () => {
    const place = x(thresholdOf(c));
    mark.setAttribute('x1', place);
    mark.setAttribute('x2', place);
  };
  move();
  return { node: svg, move };
}

// CF1, OF1 and macro F1 where all classes share one threshold; level marks show what the present thresholds give.
const COMMON = [
  ['CF1', 'first'],
  ['OF1', 'second'],
  ['macro_F1', 'third'],
];
function commonLines() {
  const lines = COMMON.map(() => []);
  for (let k = 0; k <= K; k++) {
    const found = summarise((c) => countsAt(c, k));
    COMMON.forEach(([name], i) => lines[i].push([k / K, found[name] / 100]));
  }
  return lines;
}

function commonThresholdChart(lines, width) {
  const title = 'CF1, OF1 and macro F1 against one threshold of all classes';
  const { svg, x, y, path } = plot(width, { title, xName: 'one threshold for all classes', yName: '%' });
  COMMON.forEach(([, kind], i) => svg.append(s('path', { d: path(lines[i]), class: `curve ${kind}`, fill: 'none' })));
  const mark = line(0, y(0), 0, y(1), 'threshold');
  const levels = COMMON.map(([, kind]) => s('path', { class: `level ${kind}` }));
  svg.append(mark, ...levels);
  const move = () => {
    const shared = commonThreshold();
    mark.setAttribute('visibility', shared === null ? 'hidden' : 'visible');
    mark.setAttribute('x1', x(shared || 0));
    mark.setAttribute('x2', x(shared || 0));
    COMMON.forEach(([name], i) => {
      const level = y(state.summary[name] / 100);
      levels[i].setAttribute('d', `M${x(1) - 8} ${level}L${x(1) + 2} ${round(level - 5)}V${round(level + 5)}Z`);
    });
  };
  move();
  return { node: svg, move };
}

// The threshold that all classes share, null where they differ.
function commonThreshold() {
  const first = thresholdOf(0);
  for (let c = 1; c < C; c++) if (thresholdOf(c) !== first) return null;
  return first;
}
