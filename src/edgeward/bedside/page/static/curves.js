// Curves on canvases: trends with their range and limits, the history of a score, the fan of a forecast.
// What was not measured is a gap. Time runs to the right edge, which is now.

const RANGES = { hr: [40, 140], pulse: [40, 140], spo2: [80, 100], rr: [5, 35], abp_mean: [40, 160], nibp_mean: [40, 160], temp: [35, 40], etco2: [15, 60] };
const EDGE = { left: 4, right: 40, top: 9, bottom: 9 };
const PRESSURE = /_(sys|dia|mean)$/;

function pen(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const style = getComputedStyle(canvas), ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  ctx.font = `600 ${Math.max(11, Math.min(15, height / 6))}px ${style.fontFamily}`;
  ctx.lineJoin = ctx.lineCap = "round";
  return { ctx, width, height, colour: (name) => style.getPropertyValue(name).trim() };
}

function plane({ width, height }, [low, high], [from, to]) {
  const wide = width - EDGE.left - EDGE.right, tall = height - EDGE.top - EDGE.bottom;
  return {
    x: (ms) => EDGE.left + ((ms - from) / (to - from)) * wide,
    y: (value) => EDGE.top + (1 - (value - low) / (high - low)) * tall,
    right: EDGE.left + wide,
  };
}

function range(usual, series, limits) {
  let [low, high] = usual ?? [Infinity, -Infinity];
  for (const value of [...series.flat(), ...limits]) {
    if (value === null || value === undefined) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!(low <= high)) return [0, 1];
  const room = Math.max((high - low) * 0.06, 0.5);
  return [low - room, high + room];
}

// Runs of neighbouring points that are known: [[k, value], …].
function runs(values) {
  const found = [[]];
  values.forEach((value, k) => (value === null ? found.push([]) : found.at(-1).push([k, value])));
  return found.filter((run) => run.length);
}

function line(ctx, values, at, y, width) {
  ctx.lineWidth = width;
  for (const run of runs(values)) {
    ctx.beginPath();
    for (const [k, value] of run) ctx.lineTo(at(k), y(value));
    if (run.length === 1) { ctx.arc(at(run[0][0]), y(run[0][1]), 1.5 * width, 0, 7); ctx.fillStyle = ctx.strokeStyle; ctx.fill(); } else ctx.stroke();
  }
}

function band(ctx, lows, highs, at, y) {
  for (const run of runs(lows.map((low, k) => (low === null || highs[k] === null ? null : low)))) {
    ctx.beginPath();
    for (const [k] of run) ctx.lineTo(at(k), y(highs[k]));
    for (const [k, low] of run.reverse()) ctx.lineTo(at(k), y(low));
    ctx.closePath();
    ctx.fill();
  }
}

function ruler(tools, field, [low, high], values, words = String) {
  const { ctx, width } = tools;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  for (const value of values) {
    if (value < low || value > high) continue;
    ctx.strokeStyle = tools.colour("--line");
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(EDGE.left, field.y(value));
    ctx.lineTo(field.right, field.y(value));
    ctx.stroke();
    ctx.fillStyle = tools.colour("--quiet");
    ctx.fillText(words(value), field.right + 5, field.y(value), width - field.right - 6);
  }
}

function steps([low, high], count) { // round values, about `count` of them
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Number(value.toFixed(6)));
  return found;
}

function limitLines(tools, field, limits) {
  const { ctx } = tools;
  ctx.strokeStyle = tools.colour("--limit");
  ctx.lineWidth = 1.5;
  ctx.setLineDash([7, 5]);
  for (const limit of limits) {
    if (limit === null || limit === undefined) continue;
    ctx.beginPath();
    ctx.moveTo(EDGE.left, field.y(limit));
    ctx.lineTo(field.right, field.y(limit));
    ctx.stroke();
    const above = field.y(limit) > 20; // its figure stands where there is room
    ctx.textAlign = "left";
    ctx.textBaseline = above ? "bottom" : "top";
    ctx.fillStyle = tools.colour("--limit");
    ctx.fillText(String(limit), EDGE.left, field.y(limit) + (above ? -1 : 2));
  }
  ctx.setLineDash([]);
}

function windowOf(trend) { return [trend.end - trend.count * trend.step_ms, trend.end]; }

export function drawTrend(canvas, trend) {
  const tools = pen(canvas);
  if (!tools || !trend) return;
  const kinds = canvas.dataset.kinds.split(" "), main = kinds.at(-1);
  const rows = Object.fromEntries(kinds.map((kind) => [kind, trend.vitals[kind]]));
  const limits = trend.limits[main] ?? [];
  const series = Object.values(rows).filter(Boolean).flatMap((row) => [row.low, row.high]);
  const reach = range(RANGES[main], series, limits), span = windowOf(trend), field = plane(tools, reach, span);
  const at = (k) => field.x(span[0] + (k + 0.5) * trend.step_ms);
  ruler(tools, field, reach, steps(reach, tools.height > 90 ? 3 : 2));
  limitLines(tools, field, limits);
  const { ctx } = tools, curve = tools.colour("--curve");
  ctx.strokeStyle = curve;
  ctx.fillStyle = tools.colour("--curve-range");
  const [systolic, diastolic] = [rows[kinds[0]], rows[kinds[1]]];
  if (kinds.length === 3 && systolic && diastolic) pressure(ctx, systolic.mid, diastolic.mid, rows[main]?.mid, at, field.y);
  else if (rows[main]) {
    band(ctx, rows[main].low, rows[main].high, at, field.y);
    line(ctx, rows[main].mid, at, field.y, 2);
  }
  describe(canvas, rows[main], trend.hours);
}

function pressure(ctx, systolic, diastolic, mean, at, y) {
  band(ctx, diastolic, systolic, at, y);
  ctx.lineWidth = 1.5;
  for (const [k, value] of runs(systolic).filter((run) => run.length < 3).flat()) { // a cuff's single measurements
    if (diastolic[k] === null) continue;
    ctx.beginPath();
    ctx.moveTo(at(k), y(value));
    ctx.lineTo(at(k), y(diastolic[k]));
    ctx.stroke();
  }
  if (mean) line(ctx, mean, at, y, 2);
}

function describe(canvas, row, hours) {
  const known = (row?.mid ?? []).filter((value) => value !== null);
  canvas.dataset.label ??= canvas.getAttribute("aria-label");
  const words = known.length ? `from ${Math.min(...row.low.filter((v) => v !== null))} to ${Math.max(...row.high.filter((v) => v !== null))}` : "nothing measured";
  canvas.setAttribute("aria-label", `${canvas.dataset.label}, last ${hours} h: ${words}`);
  canvas.dataset.points = known.length;
}

export function drawHistory(canvas, trend) {
  const tools = pen(canvas);
  if (!tools || !trend) return;
  const row = trend.scores[canvas.dataset.task], span = windowOf(trend);
  const top = Math.max(0, ...(row?.high ?? [])) > 0.5 ? 1 : 0.5, field = plane(tools, [0, top], span);
  const at = (k) => field.x(span[0] + (k + 0.5) * trend.step_ms);
  const { ctx } = tools;
  ruler(tools, field, [0, top], [0, top / 2, top], (share) => `${share * 100} %`);
  ctx.strokeStyle = tools.colour("--text");
  if (row) line(ctx, row.mid, at, field.y, 2);
  canvas.dataset.points = (row?.mid ?? []).filter((value) => value !== null).length;
}

const HOUR_MS = 3600000, MINUTE_MS = 60000;

export function drawFan(canvas, trend, now) {
  const tools = pen(canvas);
  if (!tools) return;
  const fan = JSON.parse(canvas.dataset.fan), row = trend?.vitals[fan.kind], limits = trend?.limits[fan.kind] ?? [];
  const times = fan.minutes.map((minute) => fan.at_ms + minute * MINUTE_MS);
  const span = [now - HOUR_MS, times.at(-1)];
  const past = row ? row.mid.map((value, k) => (trend.end - (row.mid.length - k) * trend.step_ms >= span[0] ? value : null)) : [];
  const reach = range(undefined, [fan.low, fan.high, past], limits), field = plane(tools, reach, span);
  ruler(tools, field, reach, steps(reach, 3));
  limitLines(tools, field, limits);
  const { ctx } = tools, at = (k) => field.x(times[k]);
  ctx.fillStyle = tools.colour("--fan");
  band(ctx, fan.low, fan.high, at, field.y);
  ctx.strokeStyle = tools.colour("--text");
  ctx.setLineDash([6, 4]);
  line(ctx, fan.mid, at, field.y, 2);
  ctx.setLineDash([]);
  ctx.strokeStyle = tools.colour("--curve");
  if (row) line(ctx, past, (k) => field.x(trend.end - (row.mid.length - k - 0.5) * trend.step_ms), field.y, 2);
  ctx.strokeStyle = tools.colour("--quiet");
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(field.x(now), EDGE.top);
  ctx.lineTo(field.x(now), tools.height - EDGE.bottom);
  ctx.stroke();
  ctx.fillStyle = tools.colour("--quiet");
  ctx.textBaseline = "top";
  ctx.textAlign = "center";
  ctx.fillText("now", field.x(now), 1);
}

export function drawAxis(canvas, trend) {
  const tools = pen(canvas);
  if (!tools || !trend) return;
  tools.ctx.font = tools.ctx.font.replace(/[\d.]+px/, "13px");
  const { ctx, width } = tools, right = width - EDGE.right;
  const count = width > 500 || trend.hours === 1 ? 4 : 2;
  ctx.fillStyle = tools.colour("--quiet");
  ctx.textBaseline = "middle";
  for (let k = 0; k <= count; k++) {
    const back = (1 - k / count) * trend.hours, x = EDGE.left + (k / count) * (right - EDGE.left);
    ctx.textAlign = k === 0 ? "left" : k === count ? "right" : "center";
    const words = back === 0 ? "now" : trend.hours === 1 ? `−${back * 60} min` : `−${back} h`;
    ctx.fillText(words, x, tools.height / 2);
  }
}
