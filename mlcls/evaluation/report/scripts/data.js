// The data of the page: read once, histograms turned into counts at every threshold k / K.

window.addEventListener('error', (event) => {
  const place = document.getElementById('failure');
  place.hidden = false;
  place.textContent = `The interactive part of this page does not work: ${event.message}.`;
});

const payload = JSON.parse(document.getElementById('payload').textContent);
const classes = payload.classes;
const C = classes.length;
const K = payload.steps;
const WIDTH = K + 1;

// Numbers of the embedded histograms: base64 of unsigned LEB128; a zero is followed by the length of its run.
function decodeHistograms(text, size) {
  const bytes = atob(text);
  const found = new Int32Array(size);
  let place = 0;
  let next = 0;
  const number = () => {
    let value = 0;
    let scale = 1;
    let byte;
    do {
      if (next >= bytes.length) throw new Error('the histograms of this page are cut off');
      byte = bytes.charCodeAt(next++);
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    return value;
  };
  while (next < bytes.length) {
    const value = number();
    if (value === 0) place += number();
    else found[place++] = value;
  }
  if (place !== size) throw new Error('the histograms of this page do not fit its classes');
  return found;
}

// reached[c * 2 * WIDTH + k]: positives of class c with a score of at least k / K; the negatives follow, WIDTH further.
const bins = decodeHistograms(payload.histograms, C * 2 * WIDTH);
const reached = bins.slice();
for (let row = 0; row < 2 * C; row++) {
  for (let k = K - 1; k >= 0; k--) reached[row * WIDTH + k] += reached[row * WIDTH + k + 1];
}
const POSITIVES = classes.map((item) => item.positives);
// Classes with a known label: the others are in no mean.
const KNOWN = classes.map((item) => item.positives + item.negatives > 0);
const KNOWN_CLASSES = KNOWN.filter(Boolean).length;

// Counts of class c at the threshold k / K; at its own exact threshold where k is HOME.
const HOME = -1;
function countsAt(c, k) {
  if (k === HOME) {
    const [tp, fp, fn] = payload.home[c];
    return { tp, fp, fn };
  }
  const tp = reached[c * 2 * WIDTH + k];
  return { tp, fp: reached[c * 2 * WIDTH + WIDTH + k], fn: POSITIVES[c] - tp };
}

// Written forms. A figure that is not defined is a dash.
const DASH = '\u2013';
const MINUS = '\u2212';
const whole = new Intl.NumberFormat('en-US');
const count = (value) => (value === null || value === undefined ? DASH : whole.format(value));
const percent = (value) => (value === null || value === undefined ? DASH : value.toFixed(2));
const signed = (value) => {
  const text = Math.abs(value).toFixed(2);
  if (Number(text) === 0) return '\u00b10.00';
  return (value > 0 ? '+' : MINUS) + text;
};
const plural = (n, word, more) => `${count(n)} ${n === 1 ? word : more || `${word}s`}`;

// Digits after the point that write every k / K, at most six.
const DIGITS = [1, 2, 3, 4, 5].find((digits) => Number.isInteger(10 ** digits / K)) || 6;
const gridText = (k) => (k / K).toFixed(DIGITS);

// The shortest decimal that is the same number as float32, in which scores and thresholds are compared.
function shortest(value) {
  for (let digits = 1; digits < 10; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === Math.fround(value)) return rounded;
  }
  return value;
}
const HOME_TEXTS = classes.map((item) => String(shortest(item.threshold)));
const nearestStep = (value) => Math.min(K, Math.max(0, Math.round(value * K)));
const share = (score) => (score === null || score === undefined ? DASH : score.toFixed(3));
