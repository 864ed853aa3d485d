// The list of models: which there are, which is chosen, and what is known of it.

import { models } from "./api.js";
import { size } from "./figures.js";

const CHOSEN = "localllm.model";
const WORDS = { unloaded: "loads on first use", loading: "loading", loaded: "loaded", failed: "could not be loaded" };

export class ModelChooser {
  constructor(select, facts) {
    this.select = select;
    this.facts = facts;
    this.cards = [];
    select.addEventListener("change", () => {
      sessionStorage.setItem(CHOSEN, select.value);
      this.describe();
    });
  }

  // Asks the server; throws ApiError.
  async refresh() {
    const cards = await models();
    const names = JSON.stringify(cards.map((card) => [card.id, canChat(card)]));
    if (names !== this.names) this.fill(cards);
    this.names = names;
    this.cards = cards;
    this.describe();
  }

  fill(cards) {
    const wanted = this.select.disabled ? sessionStorage.getItem(CHOSEN) : this.select.value;
    this.select.replaceChildren(...cards.map((card) => {
      const option = new Option(canChat(card) ? card.id : `${card.id} (does not chat)`, card.id);
      option.disabled = !canChat(card);
      return option;
    }));
    this.select.disabled = false;
    const usable = cards.filter(canChat).map((card) => card.id);
    this.select.value = usable.includes(wanted) ? wanted : (usable[0] ?? "");
  }

  get name() {
    return this.select.disabled ? null : this.select.value;
  }

  get card() {
    return this.cards.find((card) => card.id === this.name) ?? null;
  }

  describe() {
    const card = this.card;
    if (!card) return;
    const parts = [WORDS[card.state] ?? card.state, size(card.size_bytes)];
    if (card.context_length) parts.push(`context ${card.context_length.toLocaleString("en")}`);
    this.facts.textContent = card.state === "failed" && card.error ? card.error : parts.join(" · ");
    this.facts.dataset.state = card.state;
  }
}

function canChat(card) {
  return !card.capabilities || card.capabilities.includes("chat");
}
