// Where the network saw the label that a picture is shown under: instead of the pictures, while a button is pressed.

const maps = payload.maps || null;
let looking = false;
const mapOf = (index, c) => (maps && maps.pictures[index] && maps.pictures[index][c]) || null;

// A picture as the button wants it; one that has no map stays what it is.
function lookedAt(index, c, alt = '') {
  const map = looking ? mapOf(index, c) : null;
  if (!map) return picture(payload.images[index], alt);
  return h('img', { src: map, alt: alt && `${alt}: where it looked for ${className(c)}`, class: 'map' });
}

// What shows the pictures of the cards anew; a card keeps its focus.
let lookRenewals = [];

function setLooking(value) {
  looking = value;
  byId('maps-toggle').setAttribute('aria-pressed', String(looking));
  byId('dialog-maps-toggle').setAttribute('aria-pressed', String(looking));
  lookRenewals.forEach((renew) => renew());
  if (dialog.open) showDialogPicture();
}

function setUpLooks() {
  if (!maps) return;
  byId('maps-tools').hidden = byId('dialog-maps').hidden = false;
  byId('maps-text').textContent = maps.words;
  for (const id of ['maps-toggle', 'dialog-maps-toggle'])
    byId(id).addEventListener('click', () => setLooking(!looking));
}
