// The ECG strip: sweep display at true scale (25 mm/s, 10 mm/mV), drawn piece by piece behind an erase bar.
//
// Time on the strip is the sample index (250 Hz). A small buffer takes up the unevenness of arrival; the sweep never runs
// ahead of what has arrived. What was not measured is a dashed line with a word, never a flat line.

const RATE_HZ = 250;
const MM_PER_S = 25;
const MM_PER_MV = 10;
const MM_PER_SAMPLE = MM_PER_S / RATE_HZ;
const CROWDED_S = 0.45;
const KEPT = 1 << 14; // samples per lead: 65 s
const BUFFER_SAMPLES = 75; // 0.3 s: two blocks of 1/8 s and some
const JUMP_SAMPLES = 500;
const ERASE_MM = 10;
const MARGIN_MM = 10; // holds the 1 mV mark
const NO_SIGNAL_MS = 1000;
const WORD_EVERY = 5 * RATE_HZ;
const CSS_PX_PER_MM = 96 / 25.4;
const OK = 0, GAP = 1, LEAD_OFF = 2, FLAT = 3, SATURATED = 4, NOISE = 5, UNUSABLE = 6;
const CODES = { ok: OK, gap: GAP, lead_off: LEAD_OFF, flat: FLAT, saturated: SATURATED, noise: NOISE };
const WORDS = ["", "NO SAMPLES", "LEAD OFF", "FLAT — CHECK LEAD", "OFF SCALE", "NOISE", "NOT USABLE"];
const isDashed = (code) => code !== OK && code !== NOISE; // noise was measured: it is drawn, with its word
const MARKS = { withheld: "·", fallback: "×" };

export class Strip {
  constructor(root) {
    this.root = root;
    this.grid = root.querySelector("#grid");
    this.trace = root.querySelector("#trace");
    this.marks = root.querySelector("#marks");
    this.leadLayer = root.querySelector("#leads");
    this.names = ["ECG"];
    this.quality = {};
    this.screenMm = null;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.clear();
    new ResizeObserver(() => { this.stale = true; }).observe(root);
    addEventListener("resize", () => { this.stale = true; });
  }

  clear() { // the stream's indices begin anew
    this.mv = this.names.map(() => new Float32Array(KEPT).fill(NaN));
    this.code = this.names.map(() => new Uint8Array(KEPT).fill(GAP));
    this.rest = this.names.map(() => 0); // mV drawn at the lane's middle line; only moves in steps, scale is never touched
    this.first = this.head = null;
    this.play = null;
    this.beats = [];
    this.words = [];
    this.marks?.replaceChildren();
    this.stale = true;
  }

  setLeads(names) {
    const shown = names.slice(0, 2);
    if (shown.join("\n") === this.names.join("\n")) return;
    this.names = shown.length ? shown : ["ECG"];
    this.clear();
  }

  setQuality(leads) { this.quality = leads ?? {}; }

  setScreenMm(mm) { this.screenMm = mm; this.stale = true; }

  pxPerMm() { return this.screenMm ? screen.width / this.screenMm : CSS_PX_PER_MM; }

  push(wave, now) {
    const start = wave.i, count = wave.v[0]?.length ?? 0;
    if (!Number.isInteger(start) || start < 0 || !count) return;
    if (this.head !== null && (start > this.head + KEPT / 2 || start + count < this.head - 10 * RATE_HZ)) this.clear();
    if (this.head === null) this.first = this.head = start;
    for (let lead = 0; lead < this.names.length; lead++) {
      const mv = this.mv[lead], code = this.code[lead], values = wave.v[lead] ?? [];
      for (let i = this.head; i < start; i++) { mv[i % KEPT] = NaN; code[i % KEPT] = GAP; }
      const quality = CODES[this.quality[this.names[lead]]] ?? OK;
      const bad = wave.bad?.[lead] ? quality || UNUSABLE : quality === NOISE ? NOISE : OK;
      for (let k = 0; k < count; k++) {
        const known = typeof values[k] === "number";
        mv[(start + k) % KEPT] = known ? values[k] / 1000 : NaN;
        code[(start + k) % KEPT] = known || bad ? bad : GAP;
      }
    }
    if (start + count > this.head) { this.head = start + count; this.arrived = now; }
  }

  addBeat(beat) {
    const known = "NSVFQ".includes(beat.cls) && beat.verdict === "accepted";
    const kind = known ? beat.cls : beat.verdict === "withheld" ? "withheld" : "fallback";
    const mark = document.createElement("i");
    mark.className = "beat";
    mark.dataset.beat = kind;
    mark.dataset.i = beat.i;
    if (known && kind !== "N") mark.append(document.createElement("u"));
    const letter = document.createElement("b");
    letter.textContent = MARKS[kind] ?? kind;
    mark.append(letter);
    mark.title = beat.why ?? "";
    if (this.beats.some((held) => held.i === beat.i)) return;
    const before = this.beats.at(-1);
    if (before && Math.abs(beat.i - before.i) < CROWDED_S * RATE_HZ) {
      // In a fast run there is room for the letters alone.
      before.mark.classList.add("crowded");
      mark.classList.add("crowded");
    }
    this.beats.push({ i: beat.i, mark, shown: false });
  }

  // --- geometry
  layout() {
    this.stale = false;
    this.dpr = devicePixelRatio;
    const px = this.pxPerMm(), lanes = this.names.length;
    const width = this.root.clientWidth;
    const room = innerHeight * (innerWidth < 641 ? 0.3 : 0.36) / lanes / px;
    this.laneMm = Math.max(20, Math.min(40, Math.floor(room / 5) * 5));
    this.px = px;
    this.sweepMm = Math.max(20, Math.floor(width / px - MARGIN_MM));
    this.sweep = Math.floor(this.sweepMm / MM_PER_SAMPLE);
    const height = Math.ceil(this.laneMm * lanes * px);
    for (const canvas of [this.grid, this.trace]) {
      canvas.width = Math.round(width * this.dpr);
      canvas.height = Math.round(height * this.dpr);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    this.height = height;
    const style = getComputedStyle(this.root);
    this.colour = (name) => style.getPropertyValue(name).trim();
    this.traceColour = this.colour("--trace");
    this.badColour = this.colour("--bad");
    this.ctx = this.trace.getContext("2d");
    this.ctx.setTransform(this.dpr, 0, 0, this.dpr, 0, 0);
    this.top = this.root.clientHeight - height;
    Object.assign(this.trace.dataset, { pxPerMm: px, mmPerS: MM_PER_S, mmPerMv: MM_PER_MV, marginMm: MARGIN_MM, sweepMm: this.sweepMm, laneMm: this.laneMm });
    this.drawGrid(width, height);
    this.nameLeads();
    if (this.play !== null) this.redraw();
  }

  drawGrid(width, height) {
    const ctx = this.grid.getContext("2d"), device = this.px * this.dpr;
    const lines = (stepMm, colour, thick) => {
      ctx.fillStyle = colour;
      for (let mm = 0; mm * device < width * this.dpr; mm += stepMm) ctx.fillRect(Math.round(mm * device), 0, thick, height * this.dpr);
      for (let mm = 0; mm * device < height * this.dpr; mm += stepMm) ctx.fillRect(0, Math.round(mm * device), width * this.dpr, thick);
    };
    if (device >= 3) lines(1, this.colour("--grid-fine"), Math.max(1, Math.round(this.dpr / 2)));
    lines(5, this.colour("--grid-bold"), Math.max(1, Math.round(this.dpr * 1.2)));
    ctx.strokeStyle = this.colour("--text");
    ctx.lineWidth = Math.max(1.5 * this.dpr, 1);
    for (let lead = 0; lead < this.names.length; lead++) { // 1 mV high, 0.2 s wide
      const y = this.zero(lead) * this.dpr, mv = MM_PER_MV * device;
      ctx.beginPath();
      for (const [mm, up] of [[1, 0], [2.5, 0], [2.5, 1], [7.5, 1], [7.5, 0], [9, 0]]) ctx.lineTo(mm * device, y - up * mv);
      ctx.stroke();
    }
  }

  nameLeads() {
    this.leadLayer.replaceChildren(...this.names.map((name, lead) => {
      const label = document.createElement("span");
      label.textContent = name;
      label.style.top = `${this.top + lead * this.laneMm * this.px + 2}px`;
      return label;
    }));
  }

  zero(lead) { return (lead * this.laneMm + Math.round(this.laneMm * 0.12) * 5) * this.px; } // on a bold line, 3/5 down

  x(i) { return (MARGIN_MM + (i % this.sweep) * MM_PER_SAMPLE) * this.px; }

  y(lead, mv) {
    const top = lead * this.laneMm * this.px, y = this.zero(lead) - (mv - this.rest[lead]) * MM_PER_MV * this.px;
    return Math.min(Math.max(y, top + 1), top + this.laneMm * this.px - 1);
  }

  // --- time
  tick(now, live) {
    const dt = Math.min(now - (this.last ?? now), 1000);
    this.last = now;
    if (this.stale || this.dpr !== devicePixelRatio) this.layout();
    if (this.head === null || !live) return;
    const due = Math.min(this.head, this.head + (now - this.arrived) * RATE_HZ / 1000 - BUFFER_SAMPLES);
    if (this.play === null || Math.abs(due - this.play) > JUMP_SAMPLES) {
      this.play = Math.max(due, this.first);
      this.redraw();
      return;
    }
    const pace = 1 + Math.max(-0.1, Math.min(0.1, (due - this.play) / RATE_HZ));
    const before = Math.floor(this.play);
    let next = Math.max(this.play, Math.min(this.head, this.play + dt * RATE_HZ / 1000 * pace));
    if (this.calm.matches) { // reduced motion: a whole second at a time
      this.hidden = Math.max(next, Math.min(this.head, (this.hidden ?? this.play) + dt * RATE_HZ / 1000 * pace));
      next = Math.max(before, Math.floor(this.hidden / RATE_HZ) * RATE_HZ);
    }
    this.play = next;
    this.draw(before, Math.floor(next));
    this.tidy();
  }

  hasSignal(now) { return this.head !== null && now - this.arrived < NO_SIGNAL_MS; }

  oldest() { return Math.max(this.first, Math.floor(this.play) - this.sweep + Math.ceil((ERASE_MM + 1) / MM_PER_SAMPLE), this.head - KEPT + 1); }

  redraw() {
    this.ctx.clearRect(0, 0, this.trace.width, this.height);
    for (const word of this.words) word.mark.remove();
    this.words = [];
    for (const beat of this.beats) { beat.mark.remove(); beat.shown = false; }
    this.centre(true);
    this.draw(this.oldest(), Math.floor(this.play), true);
    this.tidy();
  }

  centre(always) { // a lead's direct offset would carry the trace out of its lane
    const end = Math.floor(this.play);
    for (let lead = 0; lead < this.names.length; lead++) {
      const seen = [];
      for (let i = Math.max(this.first, end - 4 * RATE_HZ); i < end; i += 5) {
        if (!isDashed(this.code[lead][i % KEPT])) seen.push(this.mv[lead][i % KEPT]);
      }
      if (seen.length < 50) continue;
      const median = seen.sort((a, b) => a - b)[seen.length >> 1];
      if (Math.abs(median - this.rest[lead]) > (always ? 0.2 : 0.5)) this.rest[lead] = median;
    }
  }

  draw(from, to, whole = false) {
    if (to <= from) return;
    const ctx = this.ctx;
    if (!whole) {
      const clean = Math.min(to - from, this.sweep) * MM_PER_SAMPLE * this.px + ERASE_MM * this.px, left = this.x(from) + 1;
      const right = (MARGIN_MM + this.sweepMm) * this.px + 2;
      ctx.clearRect(left, 0, Math.min(clean, right - left), this.height);
      if (left + clean > right) ctx.clearRect(MARGIN_MM * this.px - 1, 0, left + clean - right, this.height);
      if (Math.floor(from / this.sweep) !== Math.floor(to / this.sweep)) this.centre(false);
    }
    ctx.lineWidth = Math.max(1.6, this.px * 0.45);
    ctx.lineJoin = ctx.lineCap = "round";
    for (let lead = 0; lead < this.names.length; lead++) {
      this.line(lead, from, to, false);
      this.line(lead, from, to, true);
    }
  }

  line(lead, from, to, dashed) {
    const ctx = this.ctx, mv = this.mv[lead], code = this.code[lead];
    ctx.strokeStyle = dashed ? this.badColour : this.traceColour;
    ctx.beginPath();
    let joined = false;
    for (let i = Math.max(from, this.first); i <= Math.min(to, this.head - 1); i++) {
      const why = code[i % KEPT], mm = (i % this.sweep) * MM_PER_SAMPLE;
      if (dashed && why !== OK) this.word(lead, i, why);
      const wanted = dashed ? isDashed(why) && mm % 4 < 2 : !isDashed(why);
      if (!wanted) { joined = false; continue; }
      const x = this.x(i), y = dashed ? this.y(lead, this.rest[lead]) : this.y(lead, mv[i % KEPT]);
      if (joined && i % this.sweep !== 0) ctx.lineTo(x, y); else ctx.moveTo(x, y);
      joined = true;
    }
    ctx.stroke();
  }

  word(lead, i, why) {
    const last = this.words.findLast((word) => word.lead === lead);
    if (last && last.why === why && i - last.i < WORD_EVERY && this.run(lead, last.i, i, why)) return;
    const mark = document.createElement("span");
    mark.className = "word";
    mark.dataset.why = WORDS[why];
    mark.dataset.lead = this.names[lead];
    mark.textContent = WORDS[why];
    mark.style.top = `${this.top + (isDashed(why) ? this.y(lead, this.rest[lead]) : (lead + 0.12) * this.laneMm * this.px)}px`;
    this.marks.append(mark);
    const left = Math.min(this.x(i), (MARGIN_MM + this.sweepMm) * this.px - mark.offsetWidth);
    const below = last !== undefined && !last.below && left < last.right && left + mark.offsetWidth > last.left;
    mark.style.left = `${left}px`;
    mark.classList.toggle("below", below);
    this.words.push({ lead, i, why, mark, below, left, right: left + mark.offsetWidth });
  }

  run(lead, from, to, why) { // one unbroken stretch for one reason?
    for (let i = from; i < to; i += 5) if (this.code[lead][i % KEPT] !== why) return false;
    return true;
  }

  tidy() {
    const oldest = this.oldest(), now = Math.floor(this.play);
    const kept = [];
    for (const beat of this.beats) {
      if (beat.i < oldest) { beat.mark.remove(); continue; }
      if (!beat.shown && beat.i <= now) {
        beat.mark.style.left = `${this.x(beat.i)}px`;
        this.marks.append(beat.mark);
        beat.shown = true;
      }
      kept.push(beat);
    }
    this.beats = kept;
    while (this.words.length && this.words[0].i < oldest) this.words.shift().mark.remove();
  }
}
