// The connection: server-sent events, how old each datum is, and whether the page may look live.
//
// Ages never use wall time. The server stamps each datum with its own monotonic time (t_ms); /clock relates that to this
// browser's performance.now(), so that a datum that was long under way (a sleeping laptop, a buffering proxy) is seen as old.

const LOST_MS = 1500; // three pings missed
const RETRY_MS = 1000; // after a refused or broken connection
const REJOIN_AFTER_MS = 3000; // a connection that is there but late or mute is given up
const SILENT_MS = 2500;
const CLOCK_EVERY_MS = 5000;
const ROUND_TRIP_MS_MAX = 400;

export function ageWords(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

export class Link {
  constructor(address, kinds, onDatum) {
    this.address = address;
    this.kinds = ["sync", "ping", ...kinds];
    this.onDatum = onDatum;
    this.offset = null; // browser ms minus server ms
    // The same, kept while a new connection is made. Before the first, the page counts from when the server wrote it, as if
    // that had been the moment the browser asked: what it shows then looks older than it is, never younger.
    this.lastOffset = -Number(document.body.dataset.now ?? 0);
    this.heard = null; // when the last ping left the server, in browser ms
    this.quiet = 0;
    this.source = null;
    this.opened = 0;
    this.skew = Date.now() - performance.now();
    this.lastClock = -Infinity;
    this.open();
    setInterval(() => this.watch(), 200);
    addEventListener("pageshow", (shown) => shown.persisted && this.open());
    addEventListener("online", () => this.state() !== "live" && this.open());
  }

  open() {
    if (this.source) this.source.close();
    this.opened = performance.now();
    this.retryAt = Infinity;
    this.lastOffset = this.offset ?? this.lastOffset;
    this.offset = null;
    const source = new EventSource(this.address);
    this.source = source;
    for (const kind of this.kinds) {
      source.addEventListener(kind, (message) => source === this.source && this.take(kind, message.data));
    }
    source.onerror = () => {
      if (source !== this.source) return;
      source.close(); // our own retry, which never gives up
      this.retryAt = performance.now() + RETRY_MS;
    };
  }

  take(kind, text) {
    const now = performance.now();
    let datum;
    try { datum = JSON.parse(text); } catch { return; }
    if (kind === "sync") {
      this.boot = datum.boot;
      this.refreshClock();
    }
    // Until /clock has answered, the shortest way seen so far; never one that makes a datum come from the future.
    if (!Number.isFinite(datum.t_ms)) return;
    if (this.offset === null || now - datum.t_ms < this.offset) this.offset = now - datum.t_ms;
    if (kind === "ping") {
      this.heard = datum.t_ms + this.offset;
      this.quiet = datum.quiet_ms;
    }
    this.onDatum(kind, datum, datum.t_ms + this.offset);
  }

  async refreshClock() {
    const sent = performance.now();
    this.lastClock = sent;
    try {
      const answer = await fetch("/clock", { cache: "no-store", signal: AbortSignal.timeout(2000) });
      const { t_ms } = await answer.json();
      const back = performance.now();
      // The server read its clock after `sent`: this offset can make a datum look older, never younger.
      if (back - sent <= ROUND_TRIP_MS_MAX) this.offset = sent - t_ms;
    } catch { /* the pings tell */ }
  }

  watch() {
    const now = performance.now();
    const skew = Date.now() - now;
    const slept = Math.abs(skew - this.skew) > 2000; // the device slept, or its wall clock was set: trust nothing, join anew
    this.skew = skew;
    if (slept) { this.heard = null; this.open(); return; }
    const stale = this.heard === null ? now - this.opened : now - this.heard;
    if (now > this.retryAt || (stale > REJOIN_AFTER_MS && now - this.opened > REJOIN_AFTER_MS)) this.open();
    else if (this.state() === "live" && now - this.lastClock > CLOCK_EVERY_MS) this.refreshClock();
  }

  serverNow() { return performance.now() - (this.offset ?? this.lastOffset); }

  contactAge() { return this.heard === null ? null : performance.now() - this.heard; }

  silentAge() { return this.quiet + (this.contactAge() ?? 0); }

  // live | silent (server there, nothing published) | lost | connecting
  state() {
    const age = this.contactAge();
    if (age === null) return performance.now() - this.opened < LOST_MS && this.boot === undefined ? "connecting" : "lost";
    if (age > LOST_MS) return "lost";
    return this.silentAge() > SILENT_MS ? "silent" : "live";
  }
}
