// A table that sorts by every column, filters by name and shows a page of rows at a time.

// Columns: id, label, hint, numeric, value(row) to sort by, cell(row) for what is shown, live: refresh() renews it,
// sortable: false for a column of controls.
class DataTable {
  constructor(host, { caption, columns, rows, size = 50, searchText = null, noun = ['row', 'rows'], sort = null }) {
    Object.assign(this, { columns, rows, size, searchText, noun, page: 0, needle: '', sort });
    this.order = rows;
    this.body = h('tbody');
    this.heads = columns.map((column) => this.head(column));
    const table = h(
      'table',
      null,
      h('caption', { class: 'sr' }, caption),
      h('thead', null, h('tr', null, this.heads)),
      this.body,
    );
    this.summary = h('span', { class: 'soft shown' });
    this.announced = h('span', { class: 'sr', role: 'status' });
    this.back = h('button', { type: 'button', onclick: () => this.turn(-1) }, 'Previous');
    this.next = h('button', { type: 'button', onclick: () => this.turn(1) }, 'Next');
    this.pager = h('span', { class: 'pager' }, this.back, this.next);
    this.tools = h(
      'div',
      { class: 'tools' },
      searchText ? this.search(caption) : null,
      this.summary,
      this.pager,
      this.announced,
    );
    host.replaceChildren(
      this.tools,
      h('div', { class: 'wide', tabindex: '0', role: 'region', 'aria-label': caption }, table),
    );
    this.arrange();
  }

  head(column) {
    const cell = h('th', { scope: 'col', class: column.numeric ? 'n' : null, 'data-column': column.id });
    if (column.sortable === false) {
      cell.append(h('span', { class: column.hidden ? 'sr' : null }, column.label));
      return cell;
    }
    const click = () => this.sortBy(column);
    cell.append(h('button', { type: 'button', class: 'sort', title: column.hint, onclick: click }, column.label));
    return cell;
  }

  search(caption) {
    const field = h('input', {
      type: 'search',
      autocomplete: 'off',
      spellcheck: 'false',
      placeholder: 'part of a name',
    });
    field.addEventListener('input', () => {
      this.needle = field.value.trim().toLocaleLowerCase();
      this.page = 0;
      this.arrange();
      this.announced.textContent = this.summary.textContent;
    });
    return h('label', { class: 'search' }, h('span', null, 'Filter', h('span', { class: 'sr' }, ` ${caption}`)), field);
  }

  sortBy(column) {
    const first = column.numeric ? 'descending' : 'ascending';
    const other = { ascending: 'descending', descending: 'ascending' };
    const again = this.sort && this.sort.id === column.id;
    this.sort = { id: column.id, way: again ? other[this.sort.way] : first };
    this.page = 0;
    this.arrange();
  }

  // Filter, sort and show. Values that are not defined come last whichever way; equal ones keep their order.
  arrange() {
    let order = this.rows;
    if (this.needle) order = order.filter((row) => this.searchText(row).toLocaleLowerCase().includes(this.needle));
    const column = this.sort && this.columns.find((item) => item.id === this.sort.id);
    if (column) {
      const sign = this.sort.way === 'ascending' ? 1 : -1;
      const keyed = order.map((row) => [column.value(row), row]);
      const missing = (value) => value === null || value === undefined;
      keyed.sort(([a], [b]) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return sign * (typeof a === 'string' ? a.localeCompare(b) : a - b);
      });
      order = keyed.map(([, row]) => row);
    }
    this.columns.forEach((item, place) => {
      if (item.sortable === false) return;
      this.heads[place].setAttribute('aria-sort', this.sort && this.sort.id === item.id ? this.sort.way : 'none');
    });
    this.order = order;
    this.show();
  }

  turn(by) {
    this.page += by;
    this.show();
    const button = by < 0 ? this.back : this.next;
    if (button.disabled) (by < 0 ? this.next : this.back).focus();
    this.announced.textContent = this.summary.textContent;
  }

  show() {
    const pages = Math.max(1, Math.ceil(this.order.length / this.size));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const start = this.page * this.size;
    const rows = this.order.slice(start, start + this.size);
    this.shown = rows.map((row) => {
      const cells = this.columns.map((column) => {
        const cell = h(column.header ? 'th' : 'td', {
          class: column.numeric ? 'n' : column.kind,
          scope: column.header ? 'row' : null,
        });
        cell.append(column.cell(row));
        cell.dataset.column = column.id;
        return cell;
      });
      return { row, cells, node: h('tr', null, cells) };
    });
    this.body.replaceChildren(...this.shown.map((item) => item.node));
    if (!rows.length)
      this.body.append(h('tr', null, h('td', { colspan: this.columns.length, class: 'soft' }, 'None.')));
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
    this.pager.hidden = pages === 1;
    const all = `${count(this.rows.length)} ${this.rows.length === 1 ? this.noun[0] : this.noun[1]}`;
    const part = this.order.length === this.rows.length ? all : `${count(this.order.length)} of ${all}`;
    this.summary.textContent = pages === 1 ? part : `${count(start + 1)} to ${count(start + rows.length)} of ${part}`;
    this.refresh();
  }

  refresh() {
    for (const { row, cells } of this.shown) {
      this.columns.forEach((column, place) => {
        if (column.live) column.live(row, cells[place]);
      });
    }
  }
}
