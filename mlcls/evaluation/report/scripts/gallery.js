// Pictures that show where a class goes wrong, and the dialog that enlarges them.

const GALLERIES = [
  ['false_positives', 'Most confident false positives', 'No image without this label is decided to have it.'],
  ['false_negatives', 'Most hidden false negatives', 'No image with this label is missed.'],
  ['uncertain', 'Most uncertain', 'No image with a known label.'],
];

// How a label stands in an image at the present thresholds: a short sign and words for it.
function standing(image, c, score) {
  const decided = score !== null && Math.fround(score) >= Math.fround(thresholdOf(c));
  if (image.unknown.includes(c)) return [decided ? '?' : '', decided ? 'unknown, decided' : 'unknown, not decided'];
  if (image.present.includes(c)) return decided ? ['TP', 'present, found'] : ['FN', 'present, missed'];
  return decided ? ['FP', 'absent, but decided'] : ['', 'absent, not decided'];
}

// Labels with scores: the class in question first, then the present ones, then by score. An image may have thousands of
// unknown labels: only those with a score are listed.
function labelsOf(image, chosen, score) {
  const scores = new Map(image.scores);
  if (!scores.has(chosen)) scores.set(chosen, score);
  for (const c of image.present) if (!scores.has(c)) scores.set(c, null);
  const rank = (c) => (c === chosen ? 0 : image.present.includes(c) ? 1 : 2);
  return [...scores].sort(([a, x], [b, y]) => rank(a) - rank(b) || (y ?? -1) - (x ?? -1));
}

function labelLine(image, c, score, chosen) {
  const [sign, words] = standing(image, c, score);
  return h(
    'span',
    { class: `label-line${c === chosen ? ' own' : ''}`, title: `${className(c)}: ${words}` },
    named(className(c)),
    h('span', { class: 'score' }, share(score)),
    h('span', { class: 'sign', 'data-sign': sign }, sign),
  );
}

function picture(image, alt = '') {
  if (!image.thumb) return h('span', { class: 'no-picture' }, 'no picture');
  return h('img', { src: image.thumb, alt, width: image.width, height: image.height });
}

function card(entries, place, c) {
  const [index, score] = entries[place];
  const image = payload.images[index];
  const lines = h('span', { class: 'label-lines' });
  let before = null;
  const renew = () => {
    const seen = labelsOf(image, c, score).filter(([other, value]) => other === c || standing(image, other, value)[0]);
    const now = seen.map(([other, value]) => other + standing(image, other, value)[0]).join();
    if (now === before) return;
    before = now;
    lines.replaceChildren(...seen.map(([other, value]) => labelLine(image, other, value, c)));
  };
  const frame = h('span', { class: 'frame' });
  const look = () => frame.replaceChildren(lookedAt(index, c));
  look();
  if (mapOf(index, c)) lookRenewals.push(look);
  const button = h(
    'button',
    { type: 'button', class: 'card-button', tabindex: place === 0 ? '0' : '-1' },
    frame,
    pathName(image.name),
    lines,
  );
  renew();
  renewals.push(renew);
  button.addEventListener('click', () => openDialog(entries, place, c, button));
  return h('li', null, button);
}

function gallery(kind, title, none, c) {
  const entries = ((payload.galleries[c] || {})[kind] || []).filter(([index]) => payload.images[index]);
  const [, fp, fn] = payload.home[c];
  const total = { false_positives: fp, false_negatives: fn }[kind] ?? entries.length;
  const all = total > entries.length ? ` of ${count(total)}` : '';
  const heading = h(
    'h3',
    { id: `gallery-${kind}` },
    title,
    h('span', { class: 'soft' }, entries.length ? ` ${entries.length}${all}` : ''),
  );
  if (!entries.length)
    return h('section', { class: 'gallery', 'data-gallery': kind }, heading, h('p', { class: 'soft' }, none));
  const list = h(
    'ul',
    { 'aria-labelledby': heading.id, 'aria-describedby': 'gallery-help' },
    entries.map((_, place) => card(entries, place, c)),
  );
  list.addEventListener('keydown', (event) => moveFocus(event, list));
  return h('section', { class: 'gallery', 'data-gallery': kind }, heading, list);
}

// One button of a gallery is in the order of Tab; arrows move among the others.
function moveFocus(event, list) {
  const buttons = [...list.querySelectorAll('button')];
  const place = buttons.indexOf(document.activeElement);
  if (place < 0) return;
  const top = buttons[0].offsetTop;
  const columns = buttons.filter((button) => button.offsetTop === top).length;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  let target = place + (steps[event.key] || 0);
  if (event.key === 'Home') target = 0;
  else if (event.key === 'End') target = buttons.length - 1;
  else if (!(event.key in steps)) return;
  event.preventDefault();
  if (!buttons[target]) return;
  buttons[place].tabIndex = -1;
  buttons[target].tabIndex = 0;
  buttons[target].focus();
}

// What shows the labels of each card anew: signs follow the thresholds, the cards stay, and with them the focus.
let renewals = [];

function showGalleries() {
  renewals = [];
  lookRenewals = [];
  byId('galleries').replaceChildren(
    ...GALLERIES.map(([kind, title, none]) => gallery(kind, title, none, state.chosen)),
  );
}

const dialog = byId('dialog');
let shown = null;

function openDialog(entries, place, c, opener) {
  shown = { entries, place, c, opener };
  showShown();
  dialog.showModal();
}

function showShown() {
  const { entries, place, c } = shown;
  const [index, score] = entries[place];
  const image = payload.images[index];
  byId('dialog-name').replaceChildren(named(image.name));
  byId('dialog-place').textContent = `${place + 1} of ${entries.length}`;
  showDialogPicture();
  byId('dialog-size').textContent = image.width && image.height ? `${image.width} \u00d7 ${image.height} pixels` : '';
  byId('dialog-labels').replaceChildren(
    ...labelsOf(image, c, score).map(([other, value]) =>
      h(
        'tr',
        { class: other === c ? 'own' : null },
        h('th', { scope: 'row' }, named(className(other))),
        h('td', { class: 'n' }, share(value)),
        h('td', { class: 'n' }, thresholdText(other)),
        h('td', null, standing(image, other, value)[1]),
      ),
    ),
  );
  const unknown = image.unknown_count ?? image.unknown.length;
  byId('dialog-unknown').textContent = unknown ? `${plural(unknown, 'label')} of this image unknown.` : '';
  byId('dialog-before').disabled = place === 0;
  byId('dialog-after').disabled = place === entries.length - 1;
}

function showDialogPicture() {
  const { entries, place, c } = shown;
  const [index] = entries[place];
  byId('dialog-picture').replaceChildren(lookedAt(index, c, payload.images[index].name));
  byId('dialog-maps-text').textContent = mapOf(index, c) ? `for ${className(c)}` : 'is not known of this picture';
}

function turnDialog(by) {
  const place = shown.place + by;
  if (place < 0 || place >= shown.entries.length) return;
  shown.place = place;
  const buttons = shown.opener.closest('ul')?.querySelectorAll('button');
  if (buttons) {
    shown.opener.tabIndex = -1;
    shown.opener = buttons[place];
    shown.opener.tabIndex = 0;
  }
  showShown();
}

function setUpGallery() {
  dialog.addEventListener('close', () => shown.opener.focus());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  dialog.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowRight') turnDialog(1);
    if (event.key === 'ArrowLeft') turnDialog(-1);
  });
  byId('dialog-before').addEventListener('click', () => turnDialog(-1));
  byId('dialog-after').addEventListener('click', () => turnDialog(1));
  byId('dialog-close').addEventListener('click', () => dialog.close());
  listeners.chosen.push(showGalleries);
  listeners.thresholds.push(() => renewals.forEach((renew) => renew()));
  showGalleries();
}
