// Measures from counts. As in mlcls.evaluation.functional: percent; an empty denominator gives 0 and counts in the means.

const SUMMARY = ['CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1'];
const ratio = (part, all) => (100 * part) / Math.max(all, 1);
const harmonic = (a, b) => (a + b > 0 ? (2 * a * b) / (a + b) : 0);

function classMeasures({ tp, fp, fn }) {
  return { precision: ratio(tp, tp + fp), recall: ratio(tp, tp + fn), f1: ratio(2 * tp, 2 * tp + fp + fn) };
}

// The seven measures of a whole and its counts; countsOf(c) gives the counts of a class.
function summarise(countsOf) {
  const total = { tp: 0, fp: 0, fn: 0 };
  let precision = 0;
  let recall = 0;
  let f1 = 0;
  for (let c = 0; c < C; c++) {
    if (!KNOWN[c]) continue;
    const counts = countsOf(c);
    total.tp += counts.tp;
    total.fp += counts.fp;
    total.fn += counts.fn;
    const own = classMeasures(counts);
    precision += own.precision;
    recall += own.recall;
    f1 += own.f1;
  }
  const [CP, CR] = [precision / KNOWN_CLASSES, recall / KNOWN_CLASSES];
  const [OP, OR] = [ratio(total.tp, total.tp + total.fp), ratio(total.tp, total.tp + total.fn)];
  return { CP, CR, CF1: harmonic(CP, CR), OP, OR, OF1: harmonic(OP, OR), macro_F1: f1 / KNOWN_CLASSES, ...total };
}

const sameCounts = (c, j, k) =>
  reached[c * 2 * WIDTH + j] === reached[c * 2 * WIDTH + k] &&
  reached[c * 2 * WIDTH + WIDTH + j] === reached[c * 2 * WIDTH + WIDTH + k];

// Thresholds between two neighbouring scores decide alike: the one in the middle is the safest.
function centre(c, k) {
  let low = k;
  let high = k;
  while (low > 0 && sameCounts(c, low - 1, k)) low--;
  while (high < K && sameCounts(c, high + 1, k)) high++;
  return Math.floor((low + high) / 2);
}

// The step at which value(tp, fp) is highest (of equal ones the lowest), or HOME where it is never above -Infinity.
function bestStep(c, value) {
  const base = c * 2 * WIDTH;
  let best = HOME;
  let highest = -Infinity;
  for (let k = 0; k <= K; k++) {
    const found = value(reached[base + k], reached[base + WIDTH + k]);
    if (found > highest) [highest, best] = [found, k];
  }
  return best === HOME ? HOME : centre(c, best);
}

const eachClass = (choose) => Int32Array.from({ length: C }, (_, c) => (POSITIVES[c] > 0 ? choose(c) : HOME));

// Every objective gives a step for each class. HOME: nothing can be chosen, the model's own threshold stays.
const objectives = {
  f1: () => eachClass((c) => bestStep(c, (tp, fp) => ratio(2 * tp, tp + fp + POSITIVES[c]))),
  // The most recall of the steps that are precise enough, then the most precision.
  precision: (least) =>
    eachClass((c) =>
      bestStep(c, (tp, fp) => (tp + fp > 0 && 100 * tp >= least * (tp + fp) ? tp - fp / 1e9 : -Infinity)),
    ),
  // The most precision of the steps that find enough, then the most recall.
  recall: (least) =>
    eachClass((c) => bestStep(c, (tp, fp) => (100 * tp >= least * POSITIVES[c] ? ratio(tp, tp + fp) : -Infinity))),
  OF1: bestOverallF1,
  CF1: bestClassF1,
};

// OF1 is a ratio of sums over classes: Dinkelbach's method (1967) ends at its highest value, and each round is a
// separate choice for each class.
function bestOverallF1() {
  const positives = POSITIVES.reduce((sum, value) => sum + value, 0);
  let [chosen, goal] = [new Int32Array(C).fill(HOME), 0];
  if (positives === 0) return chosen;
  for (let round = 0; round < 50; round++) {
    const steps = Int32Array.from({ length: C }, (_, c) => bestStep(c, (tp, fp) => 2 * tp - goal * (tp + fp)));
    let [twice, decided] = [0, 0];
    steps.forEach((k, c) => {
      const { tp, fp } = countsAt(c, k);
      twice += 2 * tp;
      decided += tp + fp;
    });
    const reachedGoal = twice / (decided + positives);
    if (round > 0 && reachedGoal <= goal) break;
    [chosen, goal] = [steps, reachedGoal];
  }
  return chosen;
}

// Steps of a class of which none is better in both precision and recall, as {k, p, r}.
function frontier(c) {
  const found = [];
  for (let k = 0; k <= K; k++) {
    const tp = reached[c * 2 * WIDTH + k];
    const p = tp / Math.max(tp + reached[c * 2 * WIDTH + WIDTH + k], 1);
    const r = tp / POSITIVES[c];
    const last = found[found.length - 1];
    if (last && p <= last.p) continue;
    if (last && r === last.r) found.pop();
    found.push({ k, p, r });
  }
  return found;
}

// CF1 is the harmonic mean of two means. Each weighting of precision and recall is a separate choice for each class;
// the best of many weightings is then improved one class at a time until nothing moves.
function bestClassF1() {
  const fronts = classes.map((_, c) => (POSITIVES[c] > 0 ? frontier(c) : null));
  const used = fronts.map((_, c) => c).filter((c) => fronts[c]);
  const starts = [];
  const many = C > 100;
  for (let weight = 0.02; weight < 0.99; weight += many ? 0.06 : 0.02) {
    const picks = fronts.map((front) => front && highest(front, (point) => weight * point.p + (1 - weight) * point.r));
    starts.push(meansOf(picks, used));
  }
  starts.sort((a, b) => harmonic(b.p, b.r) - harmonic(a.p, a.r));
  let best = null;
  for (const start of starts.slice(0, many ? 2 : starts.length)) {
    improve(start, fronts, used);
    if (!best || harmonic(start.p, start.r) > harmonic(best.p, best.r) + 1e-12) best = start;
  }
  return Int32Array.from(best.picks, (pick, c) => (pick ? centre(c, pick.k) : HOME));
}

function highest(points, value) {
  let [best, most] = [null, -Infinity];
  for (const point of points) {
    const found = value(point);
    if (found > most) [best, most] = [point, found];
  }
  return best;
}

function meansOf(picks, used) {
  let [p, r] = [0, 0];
  for (const c of used) {
    p += picks[c].p;
    r += picks[c].r;
  }
  return { picks, p, r };
}

function improve(start, fronts, used) {
  for (let round = 0; round < 20; round++) {
    let moved = false;
    for (const c of used) {
      const old = start.picks[c];
      const [p, r] = [start.p - old.p, start.r - old.r];
      const pick = highest(fronts[c], (point) => harmonic(p + point.p, r + point.r));
      if (harmonic(p + pick.p, r + pick.r) <= harmonic(start.p, start.r) + 1e-12) continue;
      [start.picks[c], start.p, start.r, moved] = [pick, p + pick.p, r + pick.r, true];
    }
    if (!moved) return;
  }
}
