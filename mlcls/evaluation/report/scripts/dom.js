// Building elements. Texts only ever become text nodes: a name may hold anything, markup too.

const byId = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// A name of a class or an image: kept apart from the direction of the text around it, shortened by the style.
const named = (text, kind = '') => h('bdi', { class: `name ${kind}`.trim(), title: text }, text);
// Of a long path what tells images apart: its end.
const pathEnd = (text) => (text.length > 40 ? `\u2026${text.slice(-38)}` : text);
const pathName = (text) => h('bdi', { class: 'name path', title: text }, pathEnd(text));
const className = (c) => classes[c].name;

// Writes only what is new: a text that is set again costs a layout, changed or not.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function download(name, text, type) {
  const link = h('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Copies a text; true if it is on the clipboard. The second way serves browsers that lock the first for local files.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', { class: 'sr', readonly: true, 'aria-hidden': 'true' });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    let done = false;
    try {
      done = document.execCommand('copy');
    } finally {
      area.remove();
      if (focused) focused.focus();
    }
    return done;
  }
}

// One line for screen readers, after the numbers have come to rest.
let sayLater;
function announce(text) {
  clearTimeout(sayLater);
  sayLater = setTimeout(() => {
    byId('announcer').textContent = text;
  }, 500);
}
