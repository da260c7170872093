// Streams over time on a canvas: scores as colours, gaps hatched, never as zeros.
"use strict";
{
  const { pages } = window;
  const ROW = 16;
  const GROUP = 5;
  const MISSING = -2;

  const layout = (streams) => {
    let y = 0;
    return streams.map((one, i) => {
      if (i && streams[i - 1].group !== one.group) y += GROUP;
      const top = y;
      y += ROW;
      return top;
    });
  };

  const hatch = (ratio) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = Math.round(5 * ratio);
    const ctx = tile.getContext("2d");
    ctx.strokeStyle = pages.colour("gap-line");
    ctx.lineWidth = ratio;
    ctx.beginPath();
    for (const shift of [-tile.width, 0, tile.width]) {
      ctx.moveTo(shift, tile.height);
      ctx.lineTo(shift + tile.width, 0);
    }
    ctx.stroke();
    return ctx.createPattern(tile, "repeat");
  };

  const draw = (canvas, data, tops) => {
    const ratio = devicePixelRatio;
    const width = canvas.clientWidth;
    const height = tops.at(-1) + ROW;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round((height + 26) * ratio);
    canvas.style.height = `${height + 26}px`;
    const ctx = canvas.getContext("2d");
    const ramp = Array.from({ length: 11 }, (_, n) => pages.colour(`heat-${n}`));
    const gap = hatch(ratio);
    const across = (column) => Math.round(((data.start + column * data.step - data.from) / (data.to - data.from)) * width * ratio);
    data.streams.forEach((stream, row) => {
      const y = Math.round(tops[row] * ratio);
      const h = Math.round((ROW - 1) * ratio);
      stream.cells.forEach((value, column) => {
        if (value === -1) return;
        const left = Math.max(across(column), 0);
        const right = Math.min(across(column + 1), canvas.width);
        ctx.fillStyle = value === MISSING ? gap : ramp[Math.min(10, Math.floor(value / 10))];
        ctx.fillRect(left, y, Math.max(right - left, 1), h);
      });
    });
    ctx.fillStyle = pages.colour("soft");
    ctx.strokeStyle = pages.colour("line");
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    const day = data.to - data.from > 3 * 86400;
    const most = Math.max(2, Math.floor(width / 110));
    const hours = [1, 2, 3, 6, 12, 24, 48, 72, 120, 168, 336, 720].find((h) => (data.to - data.from) / 3600 / h <= most) ?? 1440;
    // Ticks on whole hours of the entity's clock.
    const offset = (at) => {
      const parts = new Intl.DateTimeFormat("en-GB", { timeZone: data.zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(at * 1000);
      const of = (type) => Number(parts.find((part) => part.type === type).value);
      return Math.round((Date.UTC(of("year"), of("month") - 1, of("day"), of("hour"), of("minute")) / 1000 - Math.floor(at / 60) * 60));
    };
    const step = hours * 3600;
    let at = Math.ceil((data.from + offset(data.from)) / step) * step - offset(data.from);
    for (; at < data.to; at += step) {
      const x = ((at - data.from) / (data.to - data.from)) * width * ratio;
      ctx.beginPath();
      ctx.moveTo(x, height * ratio);
      ctx.lineTo(x, (height + 4) * ratio);
      ctx.stroke();
      const text = day && hours >= 24 ? pages.moment(at, data.zone).replace(/,? \d\d:\d\d$/, "") : pages.moment(at, data.zone, false) === "00:00" ? pages.moment(at, data.zone).replace(/,? \d\d:\d\d$/, "") : pages.moment(at, data.zone, false);
      ctx.textAlign = x < 30 * ratio ? "left" : x > canvas.width - 40 * ratio ? "right" : "center";
      ctx.fillText(text, x, (height + 8) * ratio);
    }
  };

  const names = (element, data) => {
    const list = document.createElement("ul");
    list.className = "heat-names";
    data.streams.forEach((stream, row) => {
      const item = document.createElement("li");
      if (row && data.streams[row - 1].group !== stream.group) item.className = "group";
      const link = document.createElement("a");
      const address = new URL(location.href);
      address.searchParams.set("stream", stream.id);
      link.href = address;
      link.textContent = stream.name;
      link.title = `${stream.name} (${stream.id})`;
      if (element.dataset.stream === stream.id) link.setAttribute("aria-current", "true");
      item.append(link);
      list.append(item);
    });
    return list;
  };

  const show = (element, data) => {
    const readout = document.getElementById(element.dataset.readout);
    if (!data.streams.length) throw new Error("There is no stream in this group.");
    const tops = layout(data.streams);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    const high = data.streams.filter((one) => one.cells.some((v) => v > data.threshold * 100));
    const silent = data.streams.filter((one) => one.cells.some((v) => v === MISSING));
    canvas.setAttribute("aria-label", `Scores of ${data.streams.length} streams over time: ${high.length} go above ${data.threshold}, ${silent.length} have gaps; each stream's link shows its values`);
    const box = document.createElement("div");
    box.className = "heat-box";
    const zoom = document.createElement("div");
    zoom.className = "heat-zoom";
    zoom.hidden = true;
    box.append(canvas);
    element.replaceChildren(names(element, data), box, zoom);
    const redraw = () => draw(canvas, data, tops);
    redraw();
    new ResizeObserver(redraw).observe(box);
    document.addEventListener("colours", redraw);

    const time = (x) => data.from + (x / canvas.clientWidth) * (data.to - data.from);
    const place = (event) => {
      const row = tops.findLastIndex((top) => event.offsetY >= top);
      const column = Math.floor((time(event.offsetX) - data.start) / data.step);
      return { stream: event.offsetY < tops.at(-1) + ROW ? data.streams[row] : undefined, column };
    };
    let from = null;
    canvas.addEventListener("pointerdown", (event) => { from = event.offsetX; });
    canvas.addEventListener("pointermove", (event) => {
      if (from !== null && Math.abs(event.offsetX - from) > 6) {
        zoom.hidden = false;
        zoom.style.left = `${canvas.parentElement.offsetLeft + Math.min(from, event.offsetX)}px`;
        zoom.style.width = `${Math.abs(event.offsetX - from)}px`;
        zoom.style.height = `${tops.at(-1) + ROW}px`;
      }
      const { stream, column } = place(event);
      if (!stream) return;
      const value = stream.cells[column];
      const start = data.start + column * data.step;
      const told = value === MISSING ? "nothing received" : value === -1 || value === undefined ? "not scored" : `highest score ${(value / 100).toFixed(2)}`;
      readout.textContent = `${stream.name} · ${pages.moment(start, data.zone)} to ${pages.moment(start + data.step, data.zone, false)} · ${told}`;
    });
    window.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const began = from;
      from = null;
      zoom.hidden = true;
      if (event.target !== canvas) return;
      if (Math.abs(event.offsetX - began) > 6) {
        pages.zoom(location.href, time(Math.min(began, event.offsetX)), time(Math.max(began, event.offsetX)));
        return;
      }
      const { stream } = place(event);
      if (!stream) return;
      const address = new URL(location.href);
      address.searchParams.set("stream", stream.id);
      location.assign(address);
    });
  };

  const load = async () => {
    const element = document.getElementById("heat");
    if (!element) return;
    try {
      show(element, await pages.fetch(element.dataset.src));
      element.dataset.drawn = "yes";
    } catch (error) {
      pages.failed(element, error, load);
    }
  };
  load();
}
