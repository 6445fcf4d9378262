// The table of classes, with a slider in each row.

const counter = (name) => ({
  live: (c, cell) => setText(cell, count(current(c)[name])),
  value: (c) => current(c)[name],
});
const measure = (name) => ({
  live: (c, cell) => setText(cell, percent(classMeasures(current(c))[name])),
  value: (c) => classMeasures(current(c))[name],
});
const given = (name, write) => ({ value: (c) => classes[c][name], cell: (c) => write(classes[c][name]) });

function nameButton(c) {
  const button = h('button', { type: 'button', class: 'link', title: `Look at ${className(c)}` }, named(className(c)));
  button.addEventListener('click', () => {
    choose(c);
    byId('one-heading').focus({ preventScroll: true });
    byId('one').scrollIntoView();
  });
  const note = classes[c].note ? h('span', { class: 'flag', title: classes[c].note }, 'note') : null;
  return h('span', { class: 'name-cell' }, button, note);
}

function thresholdCell(c) {
  return h('span', { class: 'threshold-cell' }, classSlider(c, { class: 'controls' }), h('output', null));
}
function showThreshold(c, cell) {
  placeSlider(cell.querySelector('input'), c);
  const output = cell.querySelector('output');
  setText(output, thresholdText(c));
  output.title = state.steps[c] === HOME ? "the model's threshold" : `the model's: ${HOME_TEXTS[c]}`;
  output.classList.toggle('moved', state.steps[c] !== HOME);
}

const empty = () => '';
const CLASS_COLUMNS = [
  { id: 'name', label: 'class', header: true, value: className, cell: nameButton },
  { id: 'positives', label: 'positives', hint: 'images with this label', numeric: true, ...given('positives', count) },
  { id: 'threshold', label: 'threshold', numeric: true, value: thresholdOf, cell: thresholdCell, live: showThreshold },
  { id: 'tp', label: 'TP', hint: 'true positives', numeric: true, cell: empty, ...counter('tp') },
  { id: 'fp', label: 'FP', hint: 'false positives', numeric: true, cell: empty, ...counter('fp') },
  { id: 'fn', label: 'FN', hint: 'false negatives', numeric: true, cell: empty, ...counter('fn') },
  { id: 'precision', label: 'precision', hint: 'percent', numeric: true, cell: empty, ...measure('precision') },
  { id: 'recall', label: 'recall', hint: 'percent', numeric: true, cell: empty, ...measure('recall') },
  { id: 'f1', label: 'F1', hint: 'percent', numeric: true, cell: empty, ...measure('f1') },
  { id: 'ap', label: 'AP', hint: 'average precision, percent', numeric: true, ...given('ap', percent) },
  { id: 'auroc', label: 'AUROC', hint: 'area under the ROC curve, percent', numeric: true, ...given('auroc', percent) },
  { id: 'ece', label: 'ECE', hint: 'expected calibration error, percent', numeric: true, ...given('ece', percent) },
  {
    id: 'brier',
    label: 'Brier',
    hint: 'mean squared error of the score, percent',
    numeric: true,
    ...given('brier', percent),
  },
  { id: 'train', label: 'train', hint: 'positives in the training data', numeric: true, ...given('train', count) },
];

// A column that no class has a value for is left out.
const OPTIONAL = ['ap', 'auroc', 'ece', 'brier', 'train'];
const isGiven = (id) => classes.some((item) => item[id] !== null && item[id] !== undefined);
const usedColumns = CLASS_COLUMNS.filter(({ id }) => !OPTIONAL.includes(id) || isGiven(id));

const classTable = new DataTable(byId('class-table'), {
  caption: 'classes',
  columns: usedColumns,
  rows: classes.map((_, c) => c),
  size: C <= 100 ? 100 : 50,
  searchText: className,
  noun: ['class', 'classes'],
});
listeners.thresholds.push(() => classTable.refresh());
