// Confusions, pairs and suspected annotation errors.

const nameColumn = (id, label, field, hint) => ({
  id,
  label,
  hint,
  value: (row) => className(row[field]),
  cell: (row) => nameButton(row[field]),
});
const numberColumn = (id, label, hint, value, write = count) => ({
  id,
  label,
  hint,
  numeric: true,
  value,
  cell: (row) => write(value(row)),
});

// Columns that some reports have no values for are left out.
const tenths = (value) => (value === undefined ? DASH : value.toFixed(1));
const SOURCES = { by_chance: 'expected', both: 'both' };
const usedIn = (rows, columns) =>
  columns.filter(({ id }) => !(id in SOURCES) || rows.some((row) => SOURCES[id] in row));

function setUpLists() {
  new DataTable(byId('confusion-table'), {
    caption: 'confusions',
    rows: payload.confusions,
    size: 15,
    noun: ['pair', 'pairs'],
    searchText: (row) => `${className(row.missed)} ${className(row.instead)}`,
    columns: usedIn(payload.confusions, [
      nameColumn('missed', 'missed', 'missed'),
      nameColumn('instead', 'decided instead', 'instead', 'absent from the image, but decided'),
      numberColumn('count', 'images', 'images where both happened', (row) => row.count),
      numberColumn('of', 'of missed', 'images where the class was missed', (row) => row.of),
      numberColumn(
        'share',
        '%',
        'share of the images where the class was missed',
        (row) => ratio(row.count, row.of),
        percent,
      ),
      numberColumn(
        'by_chance',
        'by chance',
        'images with both errors if they had nothing to do with each other',
        (row) => row.expected,
        tenths,
      ),
    ]),
  });
  const off = (row) => row.predicted - row.observed;
  new DataTable(byId('pair-table'), {
    caption: 'pairs of labels',
    rows: payload.pairs,
    size: 15,
    noun: ['pair', 'pairs'],
    searchText: (row) => `${className(row.a)} ${className(row.b)}`,
    columns: usedIn(payload.pairs, [
      nameColumn('a', 'label', 'a'),
      nameColumn('b', 'with', 'b'),
      numberColumn('observed', 'in the labels', 'images labelled with both', (row) => row.observed),
      numberColumn('predicted', 'decided', 'images decided to have both', (row) => row.predicted),
      numberColumn(
        'both',
        'labelled and decided',
        'images labelled with both and decided to have both',
        (row) => row.both,
      ),
      numberColumn(
        'expected',
        'if independent',
        'images with both if the decisions were independent',
        (row) => row.expected,
        tenths,
      ),
      numberColumn(
        'off',
        'too many or few',
        'decided less labelled',
        off,
        (value) => (value > 0 ? '+' : value < 0 ? MINUS : '\u00b1') + count(Math.abs(value)),
      ),
    ]),
  });
  setUpSuspects();
}

const KINDS = { missing: 'label missing', wrong: 'label wrong' };
const CSV_HEAD = 'image,class,label,score,kind';
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csvRow = (row) =>
  [quoted(row.name), quoted(className(row.class)), row.kind === 'missing' ? 1 : 0, row.score, row.kind].join(',');

function setUpSuspects() {
  const rows = payload.suspects;
  const taken = new Set();
  const showTaken = () => {
    byId('suspects-export').textContent = `Download ${plural(taken.size, 'correction')} as CSV`;
    byId('suspects-export').disabled = taken.size === 0;
  };
  const box = (row) => {
    const input = h('input', { type: 'checkbox', 'aria-label': `correct ${className(row.class)} in ${row.name}` });
    input.addEventListener('change', () => {
      if (input.checked) taken.add(row);
      else taken.delete(row);
      showTaken();
    });
    return h('label', { class: 'box' }, input);
  };
  const image = (row) => (row.image === null ? null : payload.images[row.image]);
  const look = (row) => {
    if (!image(row)) return h('span', { class: 'soft' }, DASH);
    const button = h(
      'button',
      { type: 'button', class: 'thumb-button', 'aria-label': `enlarge ${row.name}` },
      picture(image(row)),
    );
    button.addEventListener('click', () => openDialog([[row.image, row.score]], 0, row.class, button));
    return button;
  };
  const table = new DataTable(byId('suspect-table'), {
    caption: 'suspected annotation errors',
    rows,
    size: 20,
    noun: ['suspect', 'suspects'],
    searchText: (row) => `${row.name} ${className(row.class)}`,
    columns: [
      {
        id: 'take',
        label: 'correct',
        sortable: false,
        kind: 'tight',
        cell: box,
        live: (row, cell) => (cell.querySelector('input').checked = taken.has(row)),
      },
      { id: 'image', label: 'picture', sortable: false, kind: 'tight', cell: look },
      { id: 'name', label: 'image', value: (row) => row.name, cell: (row) => pathName(row.name) },
      nameColumn('class', 'class', 'class'),
      { id: 'kind', label: 'suspicion', value: (row) => row.kind, cell: (row) => KINDS[row.kind] || row.kind },
      numberColumn('score', 'score', 'of the model for this class', (row) => row.score, share),
    ],
  });
  const all = (take) => () => {
    for (const row of table.order) {
      if (take) taken.add(row);
      else taken.delete(row);
    }
    table.refresh();
    showTaken();
  };
  byId('suspects-all').addEventListener('click', all(true));
  byId('suspects-none').addEventListener('click', all(false));
  byId('suspects-export').addEventListener('click', () => {
    const chosen = rows.filter((row) => taken.has(row));
    download('corrections.csv', `${[CSV_HEAD, ...chosen.map(csvRow)].join('\n')}\n`, 'text/csv');
  });
  byId('suspect-tools').hidden = rows.length === 0;
  showTaken();
}
