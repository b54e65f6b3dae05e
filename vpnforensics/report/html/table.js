// A table of many rows: searched as a whole, sorted by any column, shown a page at a time.
const PAGE_ROWS = 100, PRINT_ROWS = 2000;

class RowTable {
  // columns: label, value(row) to sort and search by, cell(row) to show, numeric, wanted.
  constructor(host, caption, rows, columns) {
    this.columns = columns;
    this.rows = rows;
    this.found = rows;
    this.sorted = { column: -1, down: false };
    this.page = 0;
    this.most = PAGE_ROWS;
    this.body = el("tbody");
    this.status = el("p", { role: "status", class: "status" });
    this.heads = columns.map((column, k) => {
      const button = el("button", { type: "button", title: `${W.sort_by} ${column.label}`, click: () => this.sort(k) }, column.label);
      return el("th", { scope: "col", "aria-sort": "none", class: column.numeric ? "number" : null }, button);
    });
    const input = el("input", { type: "search", input: () => this.search(input.value), autocomplete: "off", spellcheck: "false" });
    this.previous = el("button", { type: "button", click: () => this.turn(-1) }, W.previous);
    this.next = el("button", { type: "button", click: () => this.turn(1) }, W.next);
    this.tools = el("div", { class: "tools" },
      el("label", {}, `${W.search} `, input, el("small", {}, ` ${W.search_help}`)));
    const table = el("table", { class: "rows" }, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, this.heads)), this.body);
    host.append(this.tools, this.status,
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, table),
      el("div", { class: "pager" }, this.previous, this.next));
    addEventListener("beforeprint", () => this.show(PRINT_ROWS));
    addEventListener("afterprint", () => this.show(PAGE_ROWS));
    this.show();
  }

  // Every row as one lower-case text, made when it is first searched.
  get haystack() {
    this.texts ??= this.rows.map((row) =>
      this.columns.map((column) => String((column.words ?? column.value)(row) ?? "")).join("\n").toLowerCase());
    return this.texts;
  }

  search(typed) {
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = words.length ? this.haystack : [];
    this.found = this.rows.filter((_, n) => words.every((word) => texts[n].includes(word)));
    this.order();
  }

  sort(k) {
    this.sorted = { column: k, down: this.sorted.column === k && !this.sorted.down };
    this.heads.forEach((head, n) =>
      head.setAttribute("aria-sort", n !== k ? "none" : this.sorted.down ? "descending" : "ascending"));
    this.order();
  }

  order() {
    const { column, down } = this.sorted;
    if (column >= 0) {
      const value = this.columns[column].value, sign = down ? -1 : 1;
      const keyed = this.found.map((row) => [value(row), row]);
      const none = (x) => x === null || x === "";
      // What is missing stands last, whichever way is up.
      keyed.sort(([a, i], [b, j]) => none(a) - none(b) || sign * ((a > b) - (a < b)) || i - j);
      this.found = keyed.map(([, row]) => row);
    } else this.found = [...this.found].sort((a, b) => a - b);
    this.page = 0;
    this.show();
  }

  turn(by) {
    this.page += by;
    this.show();
  }

  show(most = PAGE_ROWS) {
    const from = most === PAGE_ROWS ? this.page * PAGE_ROWS : 0;
    const rows = this.found.slice(from, from + most);
    this.body.replaceChildren(...rows.map((row) => el("tr", {}, this.columns.map((column) =>
      el("td", { class: column.numeric ? "number" : null }, (column.cell ?? column.value)(row) ?? "–")))));
    const shown = { from: count(Math.min(from + 1, this.found.length)), to: count(from + rows.length) };
    this.status.textContent =
      `${fill(W.rows_found, { n: count(this.found.length), all: count(this.rows.length) })}, ${fill(W.rows_shown, shown)}`;
    this.previous.disabled = this.page === 0;
    this.next.disabled = from + rows.length >= this.found.length;
  }
}
