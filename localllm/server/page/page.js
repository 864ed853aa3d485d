// The built-in page: one conversation with one model, as it is in this tab. Nothing of it is kept.

import { ApiError, chat, hasKey, rememberKey } from "./api.js";
import { Stopwatch } from "./figures.js";
import { AnswerView, copy, userView } from "./messages.js";
import { ModelChooser } from "./models.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 400;
const NEAR_PX = 60;
const SETTINGS = ["system", "temperature", "limit"];

const chooser = new ModelChooser($("model"), $("facts"));
let messages = [];
let running = null;
let lastAnswer = null;
let follows = true;

// Asking and answering

function ask(text) {
  const content = text.trim();
  if (!content || running) return;
  messages.push({ role: "user", content });
  $("talk").append(userView(content));
  $("prompt").value = "";
  fitPrompt();
  answer();
}

async function answer() {
  const view = new AnswerView(chooser.name);
  lastAnswer?.tools.querySelector("[data-again]")?.remove();
  lastAnswer = view;
  $("talk").append(view.root);
  const run = { view, messages, watch: new Stopwatch(), abort: new AbortController(), last: null, reason: null };
  running = run;
  follows = true;
  showRunning();
  try {
    await receive(run);
    finish(run);
  } catch (error) {
    if (error.name === "AbortError") finish(run, "Stopped.");
    else fail(run, error);
  } finally {
    running = null;
    showRunning();
    chooser.refresh().catch(() => {});
  }
}

async function receive(run) {
  const { view, watch } = run;
  const polling = setInterval(() => watchLoading(view), POLL_MS);
  const onAccept = () => {
    clearInterval(polling);
    watch.accept();
    view.phase("Reading …");
    chooser.refresh().catch(() => {});
  };
  try {
    for await (const chunk of chat(body(), { signal: run.abort.signal, onAccept })) take(run, chunk);
  } finally {
    clearInterval(polling);
  }
}

function take(run, chunk) {
  const { view, watch } = run;
  const choice = chunk.choices[0];
  if (!choice) {
    run.last = chunk;
    return;
  }
  const { content, reasoning_content: reasoning } = choice.delta;
  if (content || reasoning) {
    watch.piece();
    view.phase("");
    if (reasoning) view.addReasoning(reasoning);
    if (content) view.addText(content);
    view.measure(watch.line());
  }
  run.reason = choice.finish_reason ?? run.reason;
}

function body() {
  const system = $("system").value.trim();
  const asked = {
    model: chooser.name ?? undefined,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...inTurns(messages)],
  };
  if ($("temperature").dataset.isSet) asked.temperature = Number($("temperature").value);
  if ($("limit").value) asked.max_tokens = Number($("limit").value);
  return asked;
}

// Joins questions that were never answered with the next one: many models want turns to alternate.
function inTurns(all) {
  const turns = [];
  for (const message of all) {
    if (turns.at(-1)?.role === message.role) turns.at(-1).content += `\n\n${message.content}`;
    else turns.push({ ...message });
  }
  return turns;
}

// Says what the model does before it answers; a server that is asked while it loads must not hang on this.
async function watchLoading(view) {
  await chooser.refresh().catch(() => {});
  if (running?.view !== view || running.watch.accepted !== null) return;
  const card = chooser.card;
  if (card?.state === "loading") view.phase("Loading the model …", card.load_progress ?? 0);
  else view.phase("Waiting for a turn …");
}

function finish(run, note = "") {
  const { view, watch, last } = run;
  const text = view.text;
  if (text) run.messages.push({ role: "assistant", content: text });
  const limit = run.reason === "length" ? "The answer ended at its limit of tokens, or the context is full." : "";
  view.end(note || limit || (text || view.reasoning ? "" : "The model said nothing."));
  view.measure(watch.line(last, chooser.card?.context_length));
  if (text) view.offer("Copy", (button) => copy(text, button), "Copy the answer");
  offerAgain(view, text);
  announce(note ? `Stopped. ${text}` : text);
}

function offerAgain(view, text) {
  const button = view.offer("Regenerate", () => again(view, text), "Regenerate the answer");
  button.dataset.again = "";
}

function again(view, text) {
  if (running) return;
  if (text) messages.pop();
  view.root.remove();
  lastAnswer = null;
  answer();
  $("prompt").focus();
}

function fail(run, error) {
  const { view } = run;
  const message = error instanceof ApiError ? error.message : `This page failed: ${error.message}`;
  const retry = () => again(view, "");
  const actions = { "Try again": retry };
  if (error.status === 401) askKey(retry);
  if (error.code === "context_length_exceeded") {
    delete actions["Try again"];
    actions["New chat"] = renew;
  }
  view.fail(message, actions);
}

function stop() {
  running?.abort.abort();
}

function renew() {
  stop();
  messages = [];
  lastAnswer = null;
  for (const node of [...$("talk").children]) if (node !== $("welcome")) node.remove();
  showRunning();
  $("prompt").focus();
}

// What the page shows

function showRunning() {
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  $("welcome").hidden = messages.length > 0 || running !== null;
  if (running) announce("The model answers.");
}

function announce(text) {
  $("announcer").textContent = text;
}

function fitPrompt() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}

function toEnd() {
  const scroller = $("scroller");
  scroller.scrollTop = scroller.scrollHeight;
}

function showLatest() {
  const { scrollHeight, scrollTop, clientHeight } = $("scroller");
  follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
  $("latest").hidden = follows;
}

// Settings

function toggleSettings(open) {
  $("settings").hidden = !open;
  $("tune").setAttribute("aria-expanded", String(open));
  if (open) $("system").focus();
  else if ($("settings").contains(document.activeElement)) $("tune").focus();
}

function setTemperature(value) {
  const slider = $("temperature");
  slider.dataset.isSet = value === null ? "" : "yes";
  slider.value = value ?? "0.8";
  $("temperature-shown").textContent = value === null ? "default" : Number(value).toFixed(2);
}

function saveSettings() {
  const values = { system: $("system").value, limit: $("limit").value, temperature: null };
  if ($("temperature").dataset.isSet) values.temperature = $("temperature").value;
  sessionStorage.setItem("localllm.settings", JSON.stringify(values));
}

function loadSettings() {
  const values = JSON.parse(sessionStorage.getItem("localllm.settings") ?? "{}");
  $("system").value = values.system ?? "";
  $("limit").value = values.limit ?? "";
  setTemperature(values.temperature ?? null);
}

function restoreSettings() {
  sessionStorage.removeItem("localllm.settings");
  loadSettings();
}

// The key

let afterKey = null;

function askKey(then) {
  const dialog = $("key-dialog");
  if (dialog.open) return;
  afterKey = then;
  $("key-problem").hidden = !hasKey();
  $("key").value = "";
  dialog.showModal();
}

async function connect() {
  try {
    await chooser.refresh();
  } catch (error) {
    if (error.status === 401) {
      $("facts").textContent = "needs a key";
      askKey(connect);
      return;
    }
    $("facts").textContent = error.message;
    $("facts").dataset.state = "failed";
    setTimeout(connect, 2000);
  }
}

// Wiring

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  ask($("prompt").value);
});
$("prompt").addEventListener("input", fitPrompt);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask($("prompt").value);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("key-dialog").open) return;
  if (running) stop();
  else if (!$("settings").hidden) toggleSettings(false);
});
$("stop").addEventListener("click", () => {
  stop();
  $("prompt").focus();
});
$("renew").addEventListener("click", renew);
$("tune").addEventListener("click", () => toggleSettings($("settings").hidden));
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("temperature").addEventListener("input", (event) => setTemperature(event.target.value));
$("restore").addEventListener("click", restoreSettings);
for (const name of SETTINGS) $(name).addEventListener("input", saveSettings);
$("ideas").addEventListener("click", (event) => {
  if (event.target.matches("button")) ask(event.target.textContent);
});
$("talk").addEventListener("click", (event) => {
  if ("copy" in event.target.dataset) copy(event.target.dataset.copy, event.target);
});
$("talk").addEventListener("grew", () => {
  if (follows) toEnd();
});
new ResizeObserver(() => {
  if (follows) toEnd();
}).observe($("talk"));
$("scroller").addEventListener("scroll", showLatest, { passive: true });
$("latest").addEventListener("click", () => {
  toEnd();
  $("prompt").focus();
});
$("key-form").addEventListener("submit", () => {
  rememberKey($("key").value);
  connect();
  if (afterKey !== connect) afterKey();
});
$("where").textContent = location.host;
loadSettings();
connect();
