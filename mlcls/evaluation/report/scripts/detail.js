// The class that is looked at: its slider, its counts and its charts.

const picker = byId('class-picker');
const oneSlider = byId('one-slider');
const oneNumber = byId('one-number');
let oneCharts = [];

const CHARTS = [
  ['pr-chart', precisionRecallChart],
  ['histogram-chart', histogramChart],
  ['reliability-chart', reliabilityChart],
];

function classFacts(c) {
  const item = classes[c];
  const facts = [
    ['positives', count(item.positives)],
    ['negatives', count(item.negatives)],
    ['unknown', count(item.unknown)],
    ['positives in training', count(item.train)],
    ['AP', percent(item.ap)],
    ['AUROC', percent(item.auroc)],
    ['ECE', percent(item.ece)],
    ['Brier', percent(item.brier)],
    ["the model's threshold", HOME_TEXTS[c]],
  ];
  if (item.interval) facts.push(['its 95 % interval', item.interval.map((value) => share(value)).join(' to ')]);
  return facts
    .filter(([, text]) => text !== DASH)
    .map(([term, text]) => h('div', null, h('dt', null, term), h('dd', null, text)));
}

function showChosen() {
  const c = state.chosen;
  picker.value = c;
  byId('one-name').replaceChildren(named(className(c)));
  byId('one-facts').replaceChildren(...classFacts(c));
  const note = byId('one-note');
  note.hidden = !classes[c].note;
  note.querySelector('.text').textContent = classes[c].note || '';
  oneSlider.setAttribute('aria-label', `threshold of ${className(c)}`);
  oneCharts.forEach((chart) => chart.draw());
  byId('before-class').disabled = c === 0;
  byId('after-class').disabled = c === C - 1;
  showChosenThreshold();
}

function showChosenThreshold() {
  const c = state.chosen;
  const { tp, fp, fn } = current(c);
  const { precision, recall, f1 } = classMeasures({ tp, fp, fn });
  placeSlider(oneSlider, c);
  oneNumber.value = thresholdText(c);
  byId('one-text').textContent = state.steps[c] === HOME ? "the model's" : `the model's: ${HOME_TEXTS[c]}`;
  const texts = { tp: count(tp), fp: count(fp), fn: count(fn), tn: count(classes[c].negatives - fp) };
  Object.assign(texts, { precision: percent(precision), recall: percent(recall), f1: percent(f1) });
  for (const [name, text] of Object.entries(texts)) document.querySelector(`[data-one="${name}"]`).textContent = text;
  oneCharts.forEach((chart) => chart.move());
}

function setUpDetail() {
  picker.append(...classes.map((item, c) => h('option', { value: c }, item.name)));
  picker.addEventListener('change', () => choose(Number(picker.value)));
  byId('before-class').addEventListener('click', () => choose(state.chosen - 1));
  byId('after-class').addEventListener('click', () => choose(state.chosen + 1));
  oneSlider.max = K;
  oneNumber.step = 1 / K;
  oneSlider.addEventListener('input', () => {
    setStep(state.chosen, oneSlider.valueAsNumber);
    announceChosen();
  });
  oneNumber.addEventListener('change', () => {
    const value = oneNumber.valueAsNumber;
    if (value >= 0 && value <= 1) setStep(state.chosen, nearestStep(value));
    else showChosenThreshold();
    announceChosen();
  });
  byId('one-home').addEventListener('click', () => setStep(state.chosen, HOME));
  // Where the page opens: the class with the most wrong decisions.
  const wrong = payload.home.map(([, fp, fn]) => fp + fn);
  state.chosen = wrong.indexOf(Math.max(...wrong));
  oneCharts = CHARTS.map(([id, draw]) => drawInto(byId(id), (width) => draw(state.chosen, width)));
  listeners.chosen.push(showChosen);
  listeners.thresholds.push(showChosenThreshold);
  showChosen();
}

function announceChosen() {
  const { precision, recall, f1 } = classMeasures(current(state.chosen));
  announce(`${className(state.chosen)}: precision ${percent(precision)}, recall ${percent(recall)}, F1 ${percent(f1)}`);
}
