// The part on operating points: one slider for all classes, objectives, live figures, copying.

const allSlider = byId('all-slider');
const allNumber = byId('all-number');
const liveTiles = [...document.querySelectorAll('[data-live]')];

function spread() {
  let [low, high] = [0, 0];
  for (let c = 1; c < C; c++) {
    if (thresholdOf(c) < thresholdOf(low)) low = c;
    if (thresholdOf(c) > thresholdOf(high)) high = c;
  }
  return [thresholdText(low), thresholdText(high)];
}

function medianPlace() {
  const places = classes.map((_, c) => sliderPlace(c)).sort((a, b) => a - b);
  return places[Math.floor(places.length / 2)];
}

function showCommon() {
  const [low, high] = spread();
  const model = state.steps.every((k) => k === HOME);
  const shared = commonThreshold() !== null;
  const words = shared ? `${low} for every class` : `each class its own, from ${low} to ${high}`;
  allSlider.value = medianPlace();
  allSlider.setAttribute('aria-valuetext', words + (model ? ", the model's" : ''));
  allNumber.value = shared ? low : '';
  byId('all-text').textContent = (model ? "The model's: " : 'Now: ') + words;
}

function showLive() {
  for (const tile of liveTiles) {
    const name = tile.dataset.live;
    const counted = name in { tp: 1, fp: 1, fn: 1 };
    const [now, before] = [state.summary[name], HOME_SUMMARY[name]];
    tile.querySelector('.value').textContent = counted ? count(now) : percent(now);
    const change = now - before;
    const text = counted
      ? (change > 0 ? '+' : change < 0 ? MINUS : '\u00b1') + count(Math.abs(change))
      : signed(change);
    const delta = tile.querySelector('.delta');
    delta.textContent = text;
    delta.dataset.way = Math.abs(change) < 0.005 ? 'same' : change > 0 ? 'up' : 'down';
  }
  const { CF1, OF1, macro_F1: macro } = state.summary;
  byId('bar-figures').textContent = `CF1 ${percent(CF1)}   OF1 ${percent(OF1)}   macro F1 ${percent(macro)}`;
  announce(`CF1 ${percent(CF1)}, OF1 ${percent(OF1)}, macro F1 ${percent(macro)}`);
}

// A message for eyes and screen readers alike.
function message(text, tone = '') {
  const place = byId('objective-message');
  place.textContent = text;
  place.dataset.tone = tone;
}

const NAMES_SHOWN = 5;
function listed(numbers) {
  const names = numbers.slice(0, NAMES_SHOWN).map(className).join(', ');
  return numbers.length > NAMES_SHOWN ? `${names} and ${count(numbers.length - NAMES_SHOWN)} more` : names;
}

function pursue(words, steps, reason) {
  setSteps(steps);
  classTable.arrange();
  const left = [];
  steps.forEach((k, c) => k === HOME && left.push(c));
  const kept = left.length
    ? ` ${plural(left.length, 'class', 'classes')} ${reason}, left at the model's threshold: ${listed(left)}.`
    : '';
  message(`${words}.${kept}`, left.length ? 'warning' : '');
}

function percentField(id, words, objective, reason) {
  const field = byId(id);
  const value = field.valueAsNumber;
  const valid = value >= 0 && value <= 100;
  field.setAttribute('aria-invalid', !valid);
  if (!valid) {
    message('Give a percentage from 0 to 100.', 'error');
    field.focus();
    return;
  }
  pursue(`${words} at least ${value} % in each class`, objectives[objective](value), reason);
}

const NO_POSITIVES = 'without a positive';
const ACTIONS = {
  f1: () => pursue('Best F1 of each class', objectives.f1(), NO_POSITIVES),
  CF1: () => pursue('Best CF1', objectives.CF1(), NO_POSITIVES),
  OF1: () => pursue('Best OF1', objectives.OF1(), NO_POSITIVES),
  precision: () => percentField('least-precision', 'Most recall with precision', 'precision', 'cannot reach it'),
  recall: () => percentField('least-recall', 'Most precision with recall', 'recall', 'cannot reach it'),
  half: () => pursue(`${gridText(nearestStep(0.5))} for every class`, new Int32Array(C).fill(nearestStep(0.5)), ''),
  home: () => {
    setSteps(new Int32Array(C).fill(HOME));
    classTable.arrange();
    message("Back at the model's thresholds.");
  },
};

function setUpExplorer() {
  allSlider.max = K;
  allNumber.step = 1 / K;
  allSlider.addEventListener('input', () => {
    setAll(allSlider.valueAsNumber);
    message('');
  });
  allNumber.addEventListener('change', () => {
    const value = allNumber.valueAsNumber;
    if (!(value >= 0 && value <= 1)) {
      message('Give a threshold from 0 to 1.', 'error');
      showCommon();
      return;
    }
    setAll(nearestStep(value));
    message('');
  });
  for (const button of document.querySelectorAll('[data-objective]')) {
    button.addEventListener('click', ACTIONS[button.dataset.objective]);
  }
  for (const [id, action] of [
    ['least-precision', 'precision'],
    ['least-recall', 'recall'],
  ]) {
    byId(id).addEventListener('keydown', (event) => event.key === 'Enter' && ACTIONS[action]());
  }
  byId('copy').addEventListener('click', async () => {
    const done = await copyText(thresholdsJson());
    byId('copy-message').textContent = done
      ? 'Copied.'
      : 'This browser does not let the page copy: use the download, or the text below.';
    if (!done) byId('json').open = true;
  });
  byId('download').addEventListener('click', () => download('thresholds.json', thresholdsJson(), 'application/json'));
  const text = byId('json');
  const showJson = () => {
    if (text.open) byId('json-text').value = thresholdsJson();
  };
  text.addEventListener('toggle', showJson);
  const lines = commonLines();
  const chart = drawInto(byId('common-chart'), (width) => commonThresholdChart(lines, width));
  const show = () => {
    showCommon();
    showLive();
    showJson();
    chart.move();
    byId('copy-message').textContent = '';
  };
  listeners.thresholds.push(show);
  show();
}
