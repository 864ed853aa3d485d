// Markdown as models write it, made of DOM nodes. Text never becomes HTML, and nothing is loaded: images become links.

const MAX_DEPTH = 8;
const MAX_INLINE_CHARS = 20_000;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+|$)/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const DELIMITERS = /^ {0,3}\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;
const BARE_URL = /https?:\/\/[^\s<>"'`\]]+/y;
const PUNCTUATION = /[!-/:-@[-`{-~]/;

// Shows a growing text; only blocks that changed are made anew.
export class MarkdownView {
  constructor(root) {
    this.root = root;
    this.shown = [];
  }

  update(text) {
    const blocks = parseBlocks(text.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"), 0);
    blocks.forEach((block, index) => {
      const source = JSON.stringify(block);
      if (this.shown[index] === source) return;
      const node = blockNode(block);
      if (index < this.root.children.length) this.root.children[index].replaceWith(node);
      else this.root.append(node);
      this.shown[index] = source;
    });
    while (this.root.children.length > blocks.length) this.root.lastElementChild.remove();
    this.shown.length = blocks.length;
  }
}

// Blocks

function parseBlocks(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, next] = parseBlock(lines, at, depth);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

function parseBlock(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return parseFence(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [{ kind: "heading", level: heading[1].length, text: headingText(line, heading[0]) }, at + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < MAX_DEPTH && QUOTE.test(line)) return parseQuote(lines, at, depth);
  if (depth < MAX_DEPTH && ITEM.test(line)) return parseList(lines, at, depth);
  if (isTable(lines, at)) return parseTable(lines, at);
  return parseParagraph(lines, at);
}

function headingText(line, marks) {
  return line.slice(marks.length).trim().replace(/(^| )#+$/, "").trim();
}

function parseFence(lines, at) {
  const [opening, marks, language] = FENCE.exec(lines[at]);
  const indent = opening.indexOf(marks[0]);
  const body = [];
  let next = at + 1;
  for (; next < lines.length; next += 1) {
    const closing = lines[next].trim();
    if (closing.length >= marks.length && closing === marks[0].repeat(closing.length)) return [code(), next + 1];
    body.push(lines[next].startsWith(" ".repeat(indent)) ? lines[next].slice(indent) : lines[next].trimStart());
  }
  return [code(), next];

  function code() {
    return { kind: "code", language, text: body.join("\n") };
  }
}

function parseQuote(lines, at, depth) {
  const inner = [];
  let next = at;
  while (next < lines.length && QUOTE.test(lines[next])) {
    inner.push(lines[next].replace(QUOTE, ""));
    next += 1;
  }
  return [{ kind: "quote", blocks: parseBlocks(inner, depth + 1) }, next];
}

function parseList(lines, at, depth) {
  const [, { length: indent }, firstMark] = ITEM.exec(lines[at]);
  const isOrdered = /\d/.test(firstMark);
  const items = [];
  let next = at;
  let wasBlank = false;
  let isLoose = false;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    if (!line.trim()) {
      wasBlank = true;
      items.at(-1).push("");
      continue;
    }
    const item = ITEM.exec(line);
    const depthOfLine = line.length - line.trimStart().length;
    if (item && item[1].length <= indent + 1) {
      if (item[1].length < indent || /\d/.test(item[2]) !== isOrdered || RULE.test(line)) break;
      isLoose ||= wasBlank && items.length > 0;
      items.push([line.slice(item[0].length)]);
    } else if (depthOfLine > indent) {
      items.at(-1).push(line.slice(Math.min(depthOfLine, indent + firstMark.length + 1)));
    } else if (wasBlank || startsBlock(line)) {
      break;
    } else {
      items.at(-1).push(line);
    }
    wasBlank = false;
  }
  const start = isOrdered ? parseInt(firstMark, 10) : null;
  return [{ kind: "list", start, isLoose, items: items.map((item) => parseBlocks(item, depth + 1)) }, next];
}

function isTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-")
    && DELIMITERS.test(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length;
}

function parseTable(lines, at) {
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((mark) =>
    mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : "left");
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|")) {
    rows.push(cells(lines[next]).slice(0, head.length));
    next += 1;
  }
  return [{ kind: "table", head, align, rows }, next];
}

function cells(line) {
  const parts = line.trim().split(/(?<!\\)\|/);
  if (!parts[0].trim()) parts.shift();
  if (parts.length && !parts.at(-1).trim()) parts.pop();
  return parts.map((part) => part.trim().replaceAll("\\|", "|"));
}

function parseParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && lines[next].trim() && !startsBlock(lines[next]) && !isTable(lines, next)) next += 1;
  return [{ kind: "paragraph", text: lines.slice(at, next).map((line) => line.trimStart()).join("\n").trimEnd() }, next];
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
}

// Nodes

const NODES = {
  heading: (block) => element(`h${Math.min(block.level + 2, 6)}`, inline(block.text)),
  rule: () => element("hr"),
  quote: (block) => element("blockquote", block.blocks.map(blockNode)),
  list: listNode,
  table: tableNode,
  code: codeNode,
  paragraph: (block) => element("p", inline(block.text)),
};

function blockNode(block) {
  return NODES[block.kind](block);
}

function listNode(block) {
  const list = element(block.start === null ? "ul" : "ol", block.items.map((blocks) => {
    const isTight = !block.isLoose && blocks[0]?.kind === "paragraph";
    return element("li", isTight ? [...inline(blocks[0].text), ...blocks.slice(1).map(blockNode)] : blocks.map(blockNode));
  }));
  if (block.start !== null && block.start !== 1) list.start = block.start;
  return list;
}

function tableNode(block) {
  const row = (tag, texts) => element("tr", block.head.map((_, index) => {
    const cell = element(tag, inline(texts[index] ?? ""));
    cell.className = block.align[index];
    return cell;
  }));
  const table = element("table", [
    element("thead", [row("th", block.head)]),
    element("tbody", block.rows.map((texts) => row("td", texts))),
  ]);
  return scrollable(element("div", [table]), "Table", "table");
}

function codeNode(block) {
  const copy = element("button", ["Copy"]);
  copy.type = "button";
  copy.className = "quiet small";
  copy.dataset.copy = block.text;
  copy.setAttribute("aria-label", "Copy the code");
  const caption = element("figcaption", [element("span", [block.language || "text"]), copy]);
  const figure = element("figure", [caption, scrollable(element("pre", [element("code", [block.text])]), "Code")]);
  figure.className = "code";
  return figure;
}

function scrollable(node, label, name = "") {
  node.tabIndex = 0;
  node.className = name;
  node.setAttribute("role", "group");
  node.setAttribute("aria-label", label);
  return node;
}

function element(tag, children = []) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

// What is inside a line: an array of nodes and strings.

function inline(text) {
  return text.length > MAX_INLINE_CHARS ? [text] : new InlineParser(text).parse(0, text.length, 0);
}

const SPANS = [["***", "strong em"], ["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];

class InlineParser {
  constructor(text) {
    this.text = text;
    this.missing = new Map();
  }

  parse(at, end, depth) {
    const nodes = [];
    let plain = "";
    const put = (node) => {
      if (plain) nodes.push(plain);
      plain = "";
      nodes.push(node);
    };
    while (at < end) {
      const found = this.special(at, end, depth);
      if (found === null) {
        plain += this.text[at];
        at += 1;
      } else if (typeof found.node === "string") {
        plain += found.node;
        at = found.next;
      } else {
        put(found.node);
        at = found.next;
      }
    }
    if (plain) nodes.push(plain);
    return nodes;
  }

  // Returns the node that begins at `at` and where it ends, or null for a character like any other.
  special(at, end, depth) {
    const char = this.text[at];
    switch (char) {
      case "\\":
        return this.escaped(at, end);
      case "\n":
        return this.text.endsWith("  ", at) ? { node: element("br"), next: at + 1 } : null;
      case "`":
        return this.code(at, end);
      case "!":
      case "[":
        return depth < MAX_DEPTH ? this.link(at, end, depth) : null;
      case "h":
        return this.bareLink(at, end);
      case "*":
      case "_":
      case "~":
        return depth < MAX_DEPTH ? this.span(at, end, depth) : null;
      default:
        return null;
    }
  }

  escaped(at, end) {
    const next = at + 1 < end ? this.text[at + 1] : "";
    if (next === "\n") return { node: element("br"), next: at + 2 };
    return PUNCTUATION.test(next) ? { node: next, next: at + 2 } : null;
  }

  code(at, end) {
    let from = at;
    while (this.text[from] === "`" && from < end) from += 1;
    const marks = this.text.slice(at, from);
    let close = this.find(marks, from, end);
    while (close >= 0 && (this.text[close + marks.length] === "`" || this.text[close - 1] === "`")) {
      let after = close;
      while (this.text[after] === "`") after += 1;
      close = this.find(marks, after, end);
    }
    if (close < 0) return { node: marks, next: from };
    return { node: element("code", [this.text.slice(from, close).trim()]), next: close + marks.length };
  }

  span(at, end, depth) {
    for (const [mark, tags] of SPANS) {
      if (!this.text.startsWith(mark, at)) continue;
      const from = at + mark.length;
      if (from >= end || /\s/.test(this.text[from])) continue;
      if (mark[0] === "_" && isWord(this.text[at - 1])) continue;
      const close = this.closing(mark, from, end);
      if (close < 0) continue;
      const children = this.parse(from, close, depth + 1);
      const node = tags.split(" ").reduceRight((inner, tag) => [element(tag, inner)], children)[0];
      return { node, next: close + mark.length };
    }
    let next = at;
    while (this.text[next] === this.text[at] && next < end) next += 1;
    return { node: this.text.slice(at, next), next };
  }

  closing(mark, from, end) {
    let close = this.find(mark, from + 1, end);
    while (close >= 0) {
      const isInside = mark.length === 1 && (this.text[close + 1] === mark || this.text[close - 1] === mark);
      const isWordPart = mark[0] === "_" && isWord(this.text[close + mark.length]);
      if (!/\s/.test(this.text[close - 1]) && !isInside && !isWordPart) return close;
      close = this.find(mark, close + (isInside ? 2 : mark.length), end);
    }
    return -1;
  }

  // indexOf, which remembers where nothing was found: many openers without an end take linear time.
  find(mark, from, end) {
    if (from >= (this.missing.get(mark) ?? Infinity)) return -1;
    const found = this.text.indexOf(mark, from);
    if (found < 0) this.missing.set(mark, from);
    return found >= 0 && found + mark.length <= end ? found : -1;
  }

  link(at, end, depth) {
    const isImage = this.text[at] === "!";
    const open = isImage ? at + 1 : at;
    if (this.text[open] !== "[") return null;
    const middle = this.find("](", open + 1, end);
    if (middle < 0) return null;
    const close = this.find(")", middle + 2, end);
    if (close < 0 || this.text.slice(open + 1, middle).includes("\n\n")) return null;
    const next = this.text[close + 1] === ")" && this.text.slice(middle + 2, close).includes("(") ? close + 1 : close;
    const target = this.text.slice(middle + 2, next).trim().split(/\s+/)[0].replace(/^<|>$/g, "");
    const label = this.parse(open + 1, middle, depth + 1);
    const anchor = anchorTo(target, label.length ? label : [target]);
    return { node: anchor ?? element("span", label), next: next + 1 };
  }

  bareLink(at, end) {
    if (isWord(this.text[at - 1])) return null;
    BARE_URL.lastIndex = at;
    const found = BARE_URL.exec(this.text)?.[0].slice(0, end - at).replace(/[.,;:!?)*_]+$/, "");
    const anchor = found ? anchorTo(found, [found]) : null;
    return anchor ? { node: anchor, next: at + found.length } : null;
  }
}

function isWord(char) {
  return char !== undefined && /[\p{L}\p{N}]/u.test(char);
}

// Only addresses that a browser opens as pages or mail; a script is not one.
function anchorTo(target, children) {
  if (!/^(https?:\/\/|mailto:)/i.test(target)) return null;
  const anchor = element("a", children);
  anchor.href = target;
  anchor.title = target;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  return anchor;
}
