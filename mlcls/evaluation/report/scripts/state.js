// What is chosen: a step for each class (HOME: the model's own threshold) and the class that is looked at.

const state = { steps: new Int32Array(C).fill(HOME), chosen: 0 };
const listeners = { thresholds: [], chosen: [] };
const tell = (what) => listeners[what].forEach((listener) => listener());

const current = (c) => countsAt(c, state.steps[c]);
const thresholdOf = (c) => (state.steps[c] === HOME ? classes[c].threshold : state.steps[c] / K);
const thresholdText = (c) => (state.steps[c] === HOME ? HOME_TEXTS[c] : gridText(state.steps[c]));
const sliderPlace = (c) => (state.steps[c] === HOME ? nearestStep(classes[c].threshold) : state.steps[c]);
const HOME_SUMMARY = summarise((c) => countsAt(c, HOME));
state.summary = HOME_SUMMARY;

function setSteps(steps) {
  state.steps.set(steps);
  state.summary = summarise(current);
  tell('thresholds');
}
function setStep(c, k) {
  state.steps[c] = k;
  state.summary = summarise(current);
  tell('thresholds');
}
const setAll = (k) => setSteps(new Int32Array(C).fill(k));

function choose(c) {
  state.chosen = c;
  tell('chosen');
}

// Names as keys, in class order; an object without a prototype, so that no name means anything special.
function thresholdsJson() {
  const thresholds = Object.create(null);
  for (let c = 0; c < C; c++) thresholds[className(c)] = thresholdOf(c);
  const content = { classes: classes.map((_, c) => className(c)), thresholds };
  Object.assign(content, { source: 'chosen by hand in the report', data_hash: payload.data_hash });
  // Thresholds are for scores as they are in this page: calibrated, if the model's are.
  if (payload.calibration) content.calibration = payload.calibration;
  return `${JSON.stringify(content, null, 2)}\n`;
}

// A slider of a class: where it stands is the nearest step, what it says is the threshold itself.
function classSlider(c, attributes) {
  const input = h('input', { type: 'range', min: 0, max: K, step: 1, ...attributes });
  input.setAttribute('aria-label', `threshold of ${className(c)}`);
  input.addEventListener('input', () => setStep(c, input.valueAsNumber));
  return input;
}
function placeSlider(input, c) {
  const place = String(sliderPlace(c));
  if (input.value !== place) input.value = place;
  input.setAttribute('aria-valuetext', thresholdText(c) + (state.steps[c] === HOME ? ", the model's" : ''));
}
