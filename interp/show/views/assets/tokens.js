(function () {
"use strict";
var ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-!#$%()*,.:;=?@[]^_`{|}~";
var MODELS = ["base", "tuned"], SVG = "http://www.w3.org/2000/svg";
var KINDS = {s: "space", m: "mark", b: "byte"};

function make(tag, name, text) {
  var made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}
function add(parent) {
  for (var i = 1; i < arguments.length; i++) parent.appendChild(arguments[i]);
  return parent;
}
function draw(tag, facts, text) {
  var made = document.createElementNS(SVG, tag);
  for (var key in facts) made.setAttribute(key, facts[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}
function signed(value, digits) {
  var text = Math.abs(value).toFixed(digits);
  return (value < 0 && +text ? "\u2212" : "+") + text;
}
function percent(share) {
  var value = 100 * share, away = Math.min(value, 100 - value);
  if (away < 0.001) return (value < 50 ? "< 0.001" : "> 99.999") + "\u00a0%";
  return +value.toFixed(away < 1 ? 1 - Math.floor(Math.log10(away)) : value < 10 ? 1 : 0) + "\u00a0%";
}
function logistic(odds) { return 1 / (1 + Math.exp(-odds)); }

// One head's weights, rows of keys up to the query; see interp/show/views/packing.py.
function unpack(text) {
  var weights = [];
  for (var i = 0; i < text.length; i++) {
    var code = ALPHABET.indexOf(text[i]);
    if (code < 64) weights.push(code * code / 3969);
    else for (var zeros = code - 62; zeros > 0; zeros--) weights.push(0);
  }
  return weights;
}

function View(root) {
  var self = this;
  this.root = root;
  this.data = JSON.parse(root.querySelector(".itv-data").textContent);
  this.text = root.querySelector(".itv-text");
  this.panel = root.querySelector(".itv-panel");
  this.tokens = Array.prototype.slice.call(root.querySelectorAll(".itv-t"));
  this.mode = "tuned"; this.head = -1; this.unpacked = {};
  this.say = make("div", "itv-say");
  this.say.setAttribute("role", "status");
  root.appendChild(this.say);
  this.pinned = this.data.open;
  this.shown = -1; this.current = this.pinned;
  this.tools();
  this.tokens.forEach(function (token, i) {
    token.tabIndex = i === self.current ? 0 : -1;
    token.addEventListener("mouseenter", function () { self.show(i); });
    token.addEventListener("focus", function () { self.roam(i); self.pin(i); self.announce(i); });
    token.addEventListener("click", function () { token.focus({preventScroll: true}); self.pin(i); });
  });
  this.text.addEventListener("mouseleave", function () { if (self.pinned >= 0) self.show(self.pinned); else self.close(); });
  this.text.addEventListener("keydown", function (event) { self.key(event); });
  this.panel.addEventListener("keydown", function (event) { if (event.key === "Escape") self.leave(event); });
  this.show(this.pinned);
  root.setAttribute("data-ready", "");
}

View.prototype.tools = function () {
  var self = this, bar = this.root.querySelector(".itv-tools");
  bar.textContent = "";
  var group = make("span", "itv-switch");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "What the colour shows");
  ["base", "tuned", "tuned \u2212 base"].forEach(function (label, i) {
    var button = make("button", "", label), mode = ["base", "tuned", "difference"][i];
    button.type = "button";
    button.setAttribute("aria-pressed", String(mode === self.mode));
    button.addEventListener("click", function () {
      self.mode = mode;
      group.querySelectorAll("button").forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
      self.paint();
      self.show(self.shown);
    });
    group.appendChild(button);
  });
  add(bar, make("span", "", "Colour"), group);
  if (this.data.heads) bar.appendChild(this.headChoice());
};

View.prototype.headChoice = function () {
  var self = this, box = make("span", "itv-look"), heads = this.data.heads;
  var layer = make("select"), head = make("select");
  var layers = heads.map(function (h) { return h[0]; }).filter(function (l, i, all) { return all.indexOf(l) === i; });
  layer.appendChild(new Option("off", ""));
  layers.forEach(function (l) { layer.appendChild(new Option("layer " + l, l)); });
  head.disabled = true;
  head.appendChild(new Option("head", ""));
  function chosen() {
    self.head = layer.value === "" ? -1 : heads.findIndex(function (h) { return h[0] === +layer.value && h[1] === +head.value; });
    self.look(self.shown);
    self.show(self.shown, true);
  }
  layer.addEventListener("change", function () {
    head.textContent = "";
    head.disabled = layer.value === "";
    if (head.disabled) head.appendChild(new Option("head", ""));
    heads.forEach(function (h) { if (layer.value !== "" && h[0] === +layer.value) head.appendChild(new Option("head " + h[1], h[1])); });
    chosen();
  });
  head.addEventListener("change", chosen);
  head.setAttribute("aria-label", "Attention: head");
  add(box, add(make("label", "", "Attention"), layer), head);
  return box;
};

// Colours of all tokens, and the legend that says what they mean.
View.prototype.paint = function () {
  var odds = this.data.odds, range = this.data.range, bare = this.data.bare, both = this.mode === "difference";
  var row = both ? odds[1].map(function (x, i) { return x - odds[0][i]; }) : odds[this.mode === "base" ? 0 : 1];
  this.tokens.forEach(function (token, i) {
    if (bare.indexOf(i) >= 0) return;
    var v = both ? Math.max(-1, Math.min(1, row[i] / range[2]))
      : Math.max(0, Math.min(1, (row[i] - range[0]) / (range[1] - range[0])));
    token.style.setProperty("--v", v.toFixed(3));
    token.classList.toggle("itv-n", v < 0);
    token.classList.toggle("itv-y", !both && row[i] > 0);
  });
  var legend = this.root.querySelector(".itv-legend"), ticks = legend.querySelector(".itv-ticks");
  legend.querySelector(".itv-scale").classList.toggle("itv-both", both);
  legend.querySelector(".itv-what").textContent = both
    ? this.data.said.odds + " after each token, tuned minus base, nats"
    : this.data.said.odds + " after each token, nats (and probability); outlined above 0";
  ticks.textContent = "";
  var levels = both ? [-range[2], -range[2] / 2, 0, range[2] / 2, range[2]] : [range[0], range[0] / 2, 0, range[1]];
  levels.forEach(function (level) {
    var share = both ? (level + range[2]) / (2 * range[2]) : (level - range[0]) / (range[1] - range[0]);
    var tick = make("span", "", level ? signed(level, 0) : "0");
    tick.style.left = 100 * share + "%";
    if (!both) tick.appendChild(make("small", "", percent(logistic(level))));
    ticks.appendChild(tick);
  });
};

View.prototype.roam = function (i) {
  this.tokens[this.current].tabIndex = -1;
  this.current = i;
  this.tokens[i].tabIndex = 0;
};

View.prototype.pin = function (i) {
  this.tokens.forEach(function (token, j) { if (j === i || token.getAttribute("aria-selected") === "true") token.setAttribute("aria-selected", String(j === i)); });
  this.pinned = i;
  this.show(i);
};

View.prototype.close = function () {
  if (this.shown >= 0) this.tokens[this.shown].classList.remove("itv-on");
  this.shown = -1;
  this.panel.style.minHeight = this.panel.offsetHeight + "px";  // the page below stays where it is
  this.panel.textContent = "";
  this.look(-1);
};

View.prototype.leave = function (event) {
  event.preventDefault();
  event.stopPropagation();
  var inside = this.panel.contains(document.activeElement);
  this.pinned = -1;
  this.close();
  if (inside) { this.tokens[this.current].focus(); this.pinned = -1; this.close(); }
};

View.prototype.key = function (event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  var last = this.tokens.length - 1, to = null, i = this.current;
  if (event.key === "Escape") { this.leave(event); return; }
  if (event.key === "Enter" || event.key === " ") to = i;
  else if (event.key === "ArrowRight") to = Math.min(last, i + 1);
  else if (event.key === "ArrowLeft") to = Math.max(0, i - 1);
  else if (event.key === "Home") to = 0;
  else if (event.key === "End") to = last;
  else if (event.key === "ArrowDown") to = this.beside(i, 1);
  else if (event.key === "ArrowUp") to = this.beside(i, -1);
  if (to === null) return;
  event.preventDefault();
  event.stopPropagation();  // a notebook would move between cells
  if (to === i) { this.pin(i); this.announce(i); } else this.tokens[to].focus();
};

// The token nearest in x on the next line in a direction.
View.prototype.beside = function (from, way) {
  var start = this.tokens[from].getBoundingClientRect(), x = (start.left + start.right) / 2, line = null, best = from, gap = Infinity;
  for (var i = from + way; i >= 0 && i < this.tokens.length; i += way) {
    var box = this.tokens[i].getBoundingClientRect(), middle = (box.top + box.bottom) / 2;
    if (way > 0 ? middle < start.bottom : middle > start.top) continue;
    if (line === null) line = middle;
    if (Math.abs(middle - line) > start.height) break;
    var off = Math.abs((box.left + box.right) / 2 - x);
    if (off < gap) { gap = off; best = i; }
  }
  return best;
};

View.prototype.word = function (entry) {
  var made = make("span", "itv-w");
  this.data.words[entry].forEach(function (part) {
    if (typeof part === "string") { made.appendChild(document.createTextNode(part)); return; }
    made.appendChild(make("i", part[1] && part[0] === "s" && part[1] !== " " ? "itv-special" : "itv-" + KINDS[part[0]], part[1]));
  });
  return made;
};

View.prototype.show = function (i, again) {
  if (i < 0 || (i === this.shown && again === undefined && this.painted === this.mode)) return;
  if (this.shown >= 0) this.tokens[this.shown].classList.remove("itv-on");
  this.shown = i;
  this.painted = this.mode;
  this.tokens[i].classList.add("itv-on");
  var d = this.data, self = this, panel = this.panel;
  panel.style.minHeight = "";
  panel.textContent = "";
  var where = make("div", "itv-where");
  add(where, document.createTextNode("after "), this.word(d.tokens[i]),
    document.createTextNode(" \u00b7 token " + (i + 1) + " of " + this.tokens.length + " \u00b7 id " + d.ids[d.tokens[i]]));
  var close = make("button", "itv-close", "\u00d7");
  close.type = "button";
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", function (event) { self.leave(event); });
  add(panel, add(make("div", "itv-top"), where, close));
  panel.appendChild(make("div", "itv-sub", d.said.next + " comes next"));
  var gap = d.odds[1][i] - d.odds[0][i];
  panel.appendChild(this.pair(function (m) {
    var cell = make("div");
    add(cell, self.name(m), make("div", "itv-big", percent(logistic(d.odds[m][i]))),
      make("div", "itv-nats", signed(d.odds[m][i], 2) + " nats" + (m ? " (" + signed(gap, 2) + ")" : "")));
    return cell;
  }));
  panel.appendChild(make("div", "itv-sub", "Likeliest next tokens"));
  panel.appendChild(this.pair(function (m) {
    var cell = make("div");
    d.top[m][i].forEach(function (entry, k) {
      var row = make("div", "itv-row" + (d.emoji.indexOf(entry) >= 0 ? " itv-y" : ""));
      row.style.setProperty("--w", d.share[m][i][k]);
      cell.appendChild(add(row, self.word(entry), make("b", "", percent(d.share[m][i][k]))));
    });
    return cell;
  }));
  panel.appendChild(make("div", "itv-sub", "Logit lens: " + d.said.inner + " by layer, nats"));
  panel.appendChild(this.chart(i));
  this.look(i);
  if (this.head >= 0) this.sources(i);
  panel.appendChild(make("div", "itv-foot", "Noise floor of the log-odds (rounding): " + (d.noise ? d.noise.toPrecision(1) : "below 1e-6") + " nats."));
};

View.prototype.pair = function (cell) { return add(make("div", "itv-pair"), cell(0), cell(1)); };

View.prototype.name = function (m) {
  var made = make("div", "itv-name itv-" + MODELS[m]), key = draw("svg", {width: 22, height: 8, "aria-hidden": "true", "class": "itv-chart", style: "width:22px"});
  key.appendChild(draw("path", {d: "M0 4H22", "class": m ? "itv-u" : "itv-b"}));
  return add(made, key, make("span", "", MODELS[m]));
};

// The lens: one line per model, the same vertical scale for every token of the view.
View.prototype.chart = function (i) {
  var lens = this.data.lens, names = this.data.layers, n = names.length;
  var all = [].concat.apply([0], [].concat.apply([], lens)), low = Math.min.apply(null, all), high = Math.max.apply(null, all);
  var W = 320, H = 112, L = 30, R = 8, T = 8, B = 20;
  function x(layer) { return L + (n > 1 ? layer / (n - 1) : 0.5) * (W - L - R); }
  function y(v) { return T + (high - v) / (high - low || 1) * (H - T - B); }
  var words = [0, 1].map(function (m) { return MODELS[m] + " " + lens[m].map(function (row) { return signed(row[i], 1); }).join(", "); });
  var chart = draw("svg", {viewBox: "0 0 " + W + " " + H, "class": "itv-chart", role: "img",
    "aria-label": this.data.said.odds + " from " + names[0] + " to " + names[n - 1] + ": " + words.join("; ")});
  chart.appendChild(draw("path", {d: "M" + L + " " + y(0) + "H" + (W - R), "class": "itv-axis"}));
  var marks = [low, 0, high].filter(function (v, k) { return k === 1 || Math.abs(y(v) - y(0)) > 11; });
  marks.forEach(function (v) {
    chart.appendChild(draw("text", {x: L - 5, y: y(v) + 3.5, "text-anchor": "end"}, v ? signed(v, 0) : "0"));
  });
  var step = Math.ceil(n / 9);
  names.forEach(function (name, layer) {
    if ((n - 1 - layer) % step && layer) return;
    if (layer === 0 && n > 9 && (n - 1) % step && (n - 1) % step < step / 2) return;
    var end = layer === 0 ? "start" : layer === n - 1 ? "end" : "middle";
    chart.appendChild(draw("text", {x: x(layer) + (layer === 0 ? -6 : layer === n - 1 ? 6 : 0), y: H - 5, "text-anchor": end}, name === "embedding" ? "embed" : name));
  });
  lens.forEach(function (rows, m) {
    var style = m ? "itv-u" : "itv-b";
    chart.appendChild(draw("path", {"class": style, "stroke-linejoin": "round",
      d: "M" + rows.map(function (row, layer) { return x(layer).toFixed(1) + " " + y(row[i]).toFixed(1); }).join("L")}));
    if (n <= 16) rows.forEach(function (row, layer) { chart.appendChild(draw("circle", {"class": style, cx: x(layer).toFixed(1), cy: y(row[i]).toFixed(1), r: 2.4})); });
  });
  return chart;
};

View.prototype.weights = function (m, i) {
  var key = m + " " + this.head;
  if (!this.unpacked[key]) this.unpacked[key] = unpack(this.data.attention[m][this.head]);
  return this.unpacked[key].slice(i * (i + 1) / 2, (i + 1) * (i + 2) / 2);
};

// Underlines: from where the chosen head attends; the base's pattern when base is shown.
View.prototype.look = function (i) {
  var weights = this.head >= 0 && i >= 0 ? this.weights(this.mode === "base" ? 0 : 1, i) : [];
  this.tokens.forEach(function (token, j) { token.style.setProperty("--a", weights[j] ? Math.sqrt(weights[j]).toFixed(2) : 0); });
};

View.prototype.sources = function (i) {
  var self = this, d = this.data, head = d.heads[this.head];
  this.panel.appendChild(make("div", "itv-sub", "Layer " + head[0] + " head " + head[1] + " attends to (underlined: " + (this.mode === "base" ? "base" : "tuned") + ")"));
  this.panel.appendChild(this.pair(function (m) {
    var cell = make("div"), weights = self.weights(m, i);
    weights.map(function (w, j) { return [w, j]; }).sort(function (a, b) { return b[0] - a[0]; }).slice(0, 4).forEach(function (one) {
      if (!one[0]) return;
      var row = make("div", "itv-row");
      row.style.setProperty("--w", one[0].toFixed(3));
      var word = self.word(d.tokens[one[1]]);
      word.appendChild(make("small", "itv-nats", " " + (one[1] + 1)));
      cell.appendChild(add(row, word, make("b", "", Math.round(100 * one[0]) + "\u00a0%")));
    });
    return cell;
  }));
};

View.prototype.announce = function (i) {
  var d = this.data, self = this;
  var next = [0, 1].map(function (m) { return self.word(d.top[m][i][0]).textContent.trim() || "white space"; });
  this.say.textContent = d.said.next + " next: base " + percent(logistic(d.odds[0][i])) + ", tuned " + percent(logistic(d.odds[1][i])) +
    ". Likeliest: base " + next[0] + ", tuned " + next[1] + ".";
};

function start() {
  document.querySelectorAll(".itv:not([data-ready])").forEach(function (root) { new View(root); });
}
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
})();
