// The API reference: the OpenAPI document in words, with a form to try each call. No other resource than our own.

import { ApiError, rememberKey, request } from "./api.js";
import { make } from "./messages.js";

const $ = (id) => document.getElementById(id);
const METHODS = ["get", "post", "put", "delete"];
const MAX_SHOWN_CHARS = 200_000;

let schemas = {};

function showDocument(document) {
  schemas = document.components?.schemas ?? {};
  $("lead").textContent = `${document.info.description ?? ""} Version ${document.info.version}.`;
  const groups = new Map((document.tags ?? []).map((tag) => [tag.name, { text: tag.description, calls: [] }]));
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of METHODS.filter((name) => name in item)) {
      const tag = item[method].tags?.[0] ?? "more";
      if (!groups.has(tag)) groups.set(tag, { text: "", calls: [] });
      groups.get(tag).calls.push({ method, path, ...item[method] });
    }
  }
  $("groups").replaceChildren(...[...groups].map(([name, group]) => groupNode(name, group)));
  openLinked();
}

function groupNode(name, { text, calls }) {
  const section = make("section", "group");
  section.append(make("h2", "", name));
  if (text) section.append(make("p", "", text));
  section.append(...calls.map(callNode));
  return section;
}

function callNode(call) {
  const details = make("details", "call");
  details.id = anchor(call);
  const summary = make("summary");
  const purpose = call.description?.split("\n")[0] ?? call.summary ?? "";
  summary.append(make("span", "method", call.method.toUpperCase()), make("span", "path", call.path), make("span", "purpose", purpose));
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    details.append(insideNode(call));
  });
  return details;
}

function insideNode(call) {
  const inside = make("div", "inside");
  const rest = call.description?.split("\n").slice(1).join("\n").trim();
  if (rest) inside.append(make("p", "", rest));
  if (call.parameters?.length) {
    inside.append(part("Parameters", fieldsTable(call.parameters.map((parameter) =>
      ({ name: parameter.name, isRequired: parameter.required, schema: parameter.schema, text: parameter.description })))));
  }
  inside.append(part("Try it", tryForm(call)));
  const schema = resolve(call.requestBody?.content["application/json"]?.schema);
  if (schema?.properties) inside.append(part("Body", fieldsTable(fieldsOf(schema))));
  inside.append(part("Answers", answersTable(call.responses)));
  return inside;
}

function part(title, node) {
  const section = make("section");
  section.append(make("h3", "", title), node);
  return section;
}

// Schemas in words

function resolve(schema) {
  return schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
}

function fieldsOf(schema) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties).map(([name, property]) =>
    ({ name, isRequired: required.has(name), schema: property, text: property.description }));
  return fields.sort((one, other) => other.isRequired - one.isRequired);
}

function typeName(schema, depth = 0) {
  if (!schema || depth > 4) return "any";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.filter((choice) => choice.type !== "null").map((choice) => typeName(choice, depth + 1)).join(" | ");
  if (schema.type === "array") return `array of ${typeName(schema.items, depth + 1)}`;
  return [schema.type ?? "any"].flat().join(" | ");
}

function bounds(schema) {
  const all = [schema, ...(schema?.anyOf ?? [])];
  const find = (name) => all.find((one) => one?.[name] !== undefined)?.[name];
  const [low, high] = [find("minimum"), find("maximum")];
  if (low === undefined && high === undefined) return "";
  return high === undefined ? ` ≥ ${low}` : low === undefined ? ` ≤ ${high}` : ` ${low} to ${high}`;
}

function fieldsTable(fields) {
  return table(["name", "type", "about"], fields.map(({ name, isRequired, schema, text }) => {
    const named = make("td");
    named.append(make("code", "", name));
    if (isRequired) named.append(make("span", "required", " required"));
    return [named, make("td", "", typeName(schema) + bounds(schema)), make("td", "", text ?? "")];
  }));
}

function answersTable(responses) {
  return table(["status", "about"], Object.entries(responses).map(([status, response]) => {
    const code = make("td");
    code.append(make("code", "", status));
    return [code, make("td", "", response.description)];
  }));
}

function table(heads, rows) {
  const head = make("tr");
  head.append(...heads.map((text) => make("th", "", text)));
  const thead = make("thead");
  thead.append(head);
  const tbody = make("tbody");
  tbody.append(...rows.map((cells) => {
    const row = make("tr");
    row.append(...cells);
    return row;
  }));
  const whole = make("table", "fields");
  whole.append(thead, tbody);
  const box = make("div", "scroll");
  box.append(whole);
  return box;
}

// Trying a call

function tryForm(call) {
  const form = make("form", "try");
  const fill = new Map();
  for (const { name, in: place } of call.parameters ?? []) {
    if (place === "path") fill.set(name, labelled(form, name, make("input")));
  }
  const body = call.requestBody ? labelled(form, `Body of ${call.method} ${call.path}`, make("textarea"), true) : null;
  if (body) {
    body.value = JSON.stringify(call.requestBody.content["application/json"]?.example ?? {}, null, 2);
    body.rows = Math.min(16, body.value.split("\n").length + 1);
    body.spellcheck = false;
  }
  const send = make("button", "main", "Send");
  const outcome = make("span", "outcome");
  outcome.setAttribute("role", "status");
  const buttons = make("div", "buttons");
  buttons.append(send, outcome);
  const result = make("pre", "result");
  result.tabIndex = 0;
  result.setAttribute("aria-label", "Answer");
  result.hidden = true;
  form.append(buttons, result);
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) {
      running.abort();
      return;
    }
    running = new AbortController();
    send.textContent = "Stop";
    const path = call.path.replace(/\{(\w+)[^}]*\}/g, (_, name) => encodeURIComponent(fill.get(name)?.value ?? ""));
    await sendTo(path, call.method, body?.value, running.signal, { outcome, result });
    running = null;
    send.textContent = "Send";
  });
  return form;
}

function labelled(form, text, field, isUnseen = false) {
  const label = make("label", isUnseen ? "unseen" : "", text);
  field.id = `field-${document.querySelectorAll("[id^=field-]").length}-${Math.random().toString(36).slice(2)}`;
  label.htmlFor = field.id;
  form.append(label, field);
  return field;
}

async function sendTo(path, method, body, signal, { outcome, result }) {
  const started = performance.now();
  const took = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
  result.hidden = true;
  outcome.textContent = "Asking …";
  try {
    const response = await request(path.slice(1), { method: method.toUpperCase(), body, signal });
    result.hidden = false;
    await showBody(response, result);
    outcome.textContent = `${response.status} · ${took()}`;
  } catch (error) {
    outcome.textContent = error.name === "AbortError" ? "Stopped." : `${error.status || ""} ${error.message}`.trim();
    if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
  }
}

async function showBody(response, result) {
  result.textContent = "";
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    result.textContent = JSON.stringify(await response.json(), null, 2).slice(0, MAX_SHOWN_CHARS);
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    if (result.textContent.length < MAX_SHOWN_CHARS) result.append(read.value);
    result.scrollTop = result.scrollHeight;
  }
}

// Links to a call, as in docs#post-v1-chat-completions

function anchor({ method, path }) {
  return `${method}${path.replace(/[^\w]+/g, "-")}`;
}

function openLinked() {
  const linked = document.getElementById(location.hash.slice(1));
  if (!linked) return;
  linked.open = true;
  linked.scrollIntoView();
}

window.addEventListener("hashchange", openLinked);
$("access").addEventListener("submit", (event) => event.preventDefault());
$("key").addEventListener("change", (event) => rememberKey(event.target.value));
try {
  showDocument(await (await request("openapi.json")).json());
} catch (error) {
  $("lead").textContent = error.message;
}
