// What a conversation looks like: the user's messages and the model's answers, each a view of its own.

import { MarkdownView } from "./markdown.js";

export function userView(text) {
  const article = make("article", "message user");
  article.setAttribute("aria-label", "You");
  article.append(make("div", "bubble", text));
  return article;
}

// An answer while it comes and after. `phase` is what is happening before the first word.
export class AnswerView {
  constructor(model) {
    this.text = "";
    this.reasoning = "";
    this.isDue = false;
    this.root = make("article", "message answer");
    this.root.setAttribute("aria-label", model ? `Answer of ${model}` : "Answer");
    this.phaseLine = make("p", "phase");
    this.phaseText = make("span", "", "Asking …");
    this.bar = make("progress", "bar-of-load");
    this.bar.max = 1;
    this.bar.hidden = true;
    this.bar.setAttribute("aria-label", "Loaded");
    this.phaseLine.append(make("span", "pulse"), this.phaseText, this.bar);
    this.thoughts = make("details", "thoughts");
    this.thoughts.hidden = true;
    this.thoughtsTitle = make("summary", "", "Thinking …");
    this.thoughtsText = make("div", "thoughts-text");
    this.thoughts.append(this.thoughtsTitle, this.thoughtsText);
    this.body = make("div", "prose");
    this.meta = make("p", "meta");
    this.tools = make("div", "tools");
    this.root.append(this.thoughts, this.body, this.phaseLine, this.meta, this.tools);
    this.markdown = new MarkdownView(this.body);
    this.root.classList.add("live");
  }

  phase(text, share = null) {
    this.phaseLine.hidden = !text;
    this.phaseText.textContent = text;
    this.bar.hidden = share === null;
    if (share !== null) this.bar.value = share;
  }

  addText(text) {
    this.text += text;
    this.draw();
  }

  addReasoning(text) {
    this.reasoning += text;
    this.draw();
  }

  // Draws at most once a frame, however fast the tokens come; at once where no frames are drawn.
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    const now = () => {
      if (this.isDue) this.drawNow();
    };
    if (document.hidden) setTimeout(now, 100);
    else requestAnimationFrame(now);
  }

  drawNow() {
    this.isDue = false;
    this.thoughts.hidden = !this.reasoning;
    this.thoughtsText.textContent = this.reasoning.trim();
    if (this.text) this.thoughtsTitle.textContent = "Reasoning";
    this.markdown.update(this.text);
    this.root.dispatchEvent(new CustomEvent("grew", { bubbles: true }));
  }

  measure(text) {
    this.meta.textContent = text;
  }

  // Ends the answer; `note` says why if it was not simply over.
  end(note = "") {
    this.phase("");
    this.root.classList.remove("live");
    this.thoughtsTitle.textContent = "Reasoning";
    if (note) this.root.insertBefore(make("p", "note", note), this.meta);
    this.drawNow();
  }

  offer(label, action, name = label) {
    const button = make("button", "quiet small", label);
    button.type = "button";
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => action(button));
    this.tools.append(button);
    return button;
  }

  // Shows an error with what to do: a button for each of `actions`, label to function.
  fail(message, actions) {
    this.end();
    const box = make("div", "problem");
    box.setAttribute("role", "alert");
    box.append(make("p", "", message));
    for (const [label, action] of Object.entries(actions)) {
      const button = make("button", "quiet small", label);
      button.type = "button";
      button.addEventListener("click", action);
      box.append(button);
    }
    this.root.insertBefore(box, this.meta);
  }
}

export async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => {
    button.textContent = label;
  }, 1500);
}

export function make(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}
