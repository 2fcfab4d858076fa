// The page: photos in, labels with bars out.
import { Tagger } from "./tagger.js";

const COLORS = ["#e6550d", "#1f9e89", "#b04fd8", "#d6a400", "#3182bd", "#e7298a"];
const find = (id) => document.getElementById(id);
const threshold = find("threshold");
const cards = [];
const waiting = []; // cards whose photos are not computed yet
let tagger;
let isTuned = true;
let isBusy = false;

/** A photo on the page: its file and element, and once computed, its probabilities, size, boxes and error. */
class Card {
  constructor(file) {
    this.file = file;
    this.element = find("card").content.cloneNode(true).firstElementChild;
    [this.message, this.details, this.image] = ["p", "details", "img"].map((x) => this.element.querySelector(x));
    this.element.querySelector("h2").textContent = file.name;
    this.image.src = URL.createObjectURL(file);
    this.image.onerror = () => (this.image.hidden = true);
    find("photos").append(this.element);
  }

  async compute() {
    this.setMessage("Computing");
    await new Promise((resolve) => setTimeout(resolve)); // shows the message
    try {
      const { pixels, width, height } = await tagger.read(this.file);
      this.size = [width, height];
      this.probabilities = await tagger.probabilities(pixels);
      this.show();
      if (document.body.dataset.boxes === "yes") this.boxes = await requestBoxes(this.file);
    } catch (error) {
      this.error = `${this.file.name}: ${error.message}`;
    }
    this.show();
  }

  /** Show the labels from their thresholds on, best first, and all classes below. */
  show() {
    const { classes } = tagger.config;
    const order = [...(this.probabilities ?? []).keys()].sort((a, b) => this.probabilities[b] - this.probabilities[a]);
    const labels = order.filter((k) => this.probabilities[k] >= thresholdOf(k));
    const located = labels.filter((k) => this.boxes?.get(classes[k])?.length);
    const colors = new Map(located.map((k, i) => [k, COLORS[i % COLORS.length]]));
    const [chosen, all] = this.element.querySelectorAll(".labels");
    chosen.replaceChildren(...labels.map((k) => makeRow(k, this.probabilities[k], colors.get(k))));
    all.replaceChildren(...order.map((k) => makeRow(k, this.probabilities[k])));
    this.details.hidden = !order.length;
    this.details.firstElementChild.textContent = `All ${classes.length} classes`;
    this.setMessage(this.error ?? (order.length && !labels.length ? "No label reaches its threshold" : ""));
    this.drawBoxes(colors);
  }

  drawBoxes(colors) {
    const svg = this.element.querySelector("svg");
    if (this.size) svg.setAttribute("viewBox", `0 0 ${this.size.join(" ")}`);
    const draw = ([k, color]) => {
      const [x0, y0, x1, y1] = this.boxes.get(tagger.config.classes[k])[0].box;
      const rect = document.createElementNS(svg.namespaceURI, "rect");
      Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 }).forEach((pair) => rect.setAttribute(...pair));
      rect.style.setProperty("--color", color);
      return rect;
    };
    svg.replaceChildren(...[...colors].map(draw));
  }

  setMessage(text) {
    this.message.textContent = text;
    this.message.hidden = !text;
    this.message.classList.toggle("error", Boolean(this.error));
  }

  remove() {
    URL.revokeObjectURL(this.image.src);
    this.element.remove();
  }
}

function makeRow(k, probability, color) {
  const row = document.createElement("li");
  const [name, value, bar, filled, mark] = ["span", "span", "div", "div", "i"].map((x) => document.createElement(x));
  name.textContent = tagger.config.classes[k];
  value.textContent = `${(100 * probability).toFixed(1)} %`;
  value.dataset.value = probability;
  filled.style.width = `${100 * probability}%`;
  mark.style.left = `${100 * thresholdOf(k)}%`;
  bar.className = "bar";
  bar.append(filled, mark);
  row.append(name, value, bar);
  row.classList.toggle("boxed", Boolean(color));
  if (color) row.style.setProperty("--color", color);
  return row;
}

function thresholdOf(k) {
  return isTuned ? tagger.config.thresholds[k] : threshold.value / 100;
}

/** Ask the server of the page for boxes: class -> [{box, score}], best first. */
async function requestBoxes(file) {
  const headers = { "Content-Type": file.type || "image/unknown" };
  const answer = await fetch("boxes", { method: "POST", headers, body: file }).catch(() => {
    throw new Error("no boxes, because the server does not answer: start wsd serve again");
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(`no boxes, because ${content.error}`);
  return new Map(Object.entries(content)); // a class may be named like a property of objects
}

function addPhotos(files) {
  if (!tagger) return;
  for (const file of files) {
    cards.push(new Card(file));
    waiting.push(cards.at(-1));
  }
  computeWaiting();
}

async function computeWaiting() {
  if (isBusy) return;
  isBusy = true;
  find("photos").setAttribute("aria-busy", "true");
  while (waiting.length) await waiting.shift().compute();
  find("photos").setAttribute("aria-busy", "false");
  isBusy = false;
}

function setTuned(value) {
  isTuned = value;
  const { thresholds } = tagger.config;
  const isOne = thresholds.every((x) => x === thresholds[0]);
  if (isTuned) threshold.value = 100 * thresholds.toSorted((a, b) => a - b)[thresholds.length >> 1];
  const tuned = isOne ? `${Math.round(100 * thresholds[0])} %, tuned` : "tuned for each class";
  find("threshold-value").textContent = isTuned ? tuned : `${threshold.value} %`;
  find("tuned").disabled = isTuned;
  cards.filter((card) => card.probabilities).forEach((card) => card.show());
}

function listen() {
  const stop = (event) => event.preventDefault();
  const mark = (isOver) => find("drop").classList.toggle("over", isOver);
  document.addEventListener("dragover", (event) => (stop(event), mark(true)));
  document.addEventListener("dragleave", () => mark(false));
  document.addEventListener("drop", (event) => (stop(event), mark(false), addPhotos(event.dataTransfer.files)));
  document.addEventListener("paste", (event) => addPhotos(event.clipboardData.files));
  find("files").addEventListener("change", ({ target }) => {
    addPhotos(target.files);
    target.value = ""; // the same photo can be chosen again
  });
  threshold.addEventListener("input", () => setTuned(false));
  find("tuned").addEventListener("click", () => setTuned(true));
  find("clear").addEventListener("click", () => {
    waiting.length = 0;
    cards.splice(0).forEach((card) => card.remove());
  });
}

async function start() {
  const sendsPhotos = document.body.dataset.boxes === "yes";
  find("local").hidden = sendsPhotos;
  find("sent").hidden = !sendsPhotos;
  try {
    tagger = await Tagger.load();
  } catch (error) {
    find("status").textContent = `The tagger cannot be loaded: ${error.message}`;
    find("status").classList.add("error");
    return;
  }
  const { classes } = tagger.config;
  find("about").hidden = false;
  find("about").querySelector("summary").textContent = `${classes.length} labels`;
  find("about").querySelector("p").textContent = classes.join(", ");
  find("status").textContent = "";
  find("files").disabled = false;
  listen();
  setTuned(true);
}

start();
