// Lines over time, drawn by uPlot: the final score, one stream, and the minutes of an episode.
"use strict";
{
  const { pages } = window;
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
    return value.toLocaleString("en-GB", { maximumFractionDigits: digits });
  };
  const FONT = "11px system-ui, sans-serif";

  const axes = (zone, options = {}) => [
    {
      font: FONT, stroke: pages.colour("soft"), size: options.bare ? 6 : 40, space: 78,
      grid: { stroke: pages.colour("line"), width: 1 },
      ticks: { stroke: pages.colour("line"), width: 1, size: 4 },
      values: options.bare ? () => [] : (u, splits, _, space, step) => {
        let before = "";
        return splits.map((at) => {
          const day = pages.moment(at, zone).replace(/,? \d\d:\d\d$/, "");
          const clock = pages.moment(at, zone, false);
          const text = clock === "00:00" ? day : (step >= 86400 ? day : before === "" ? `${clock}\n${day}` : clock);
          before = day;
          return text;
        });
      },
    },
    {
      font: FONT, stroke: pages.colour("soft"), size: options.axis ?? pages.axis(), gap: 6,
      grid: { stroke: pages.colour("line"), width: 1 },
      ticks: { show: false }, space: options.space ?? 26,
      values: options.values ?? ((u, splits) => splits.map(number)),
    },
  ];

  // Marks behind the lines: spans of time, in the colour of what was said of them.
  const spans = (list, colour) => ({
    hooks: {
      drawClear: (u) => {
        const { ctx, bbox } = u;
        ctx.save();
        ctx.beginPath();
        ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
        ctx.clip();
        for (const one of list) {
          const left = u.valToPos(one.start, "x", true);
          const width = Math.max(u.valToPos(one.end, "x", true) - left, 2 * devicePixelRatio);
          ctx.fillStyle = colour(one);
          ctx.fillRect(left, bbox.top, width, bbox.height);
        }
        ctx.restore();
      },
    },
  });

  const limit = (value, colour) => ({
    hooks: {
      draw: (u) => {
        const { ctx, bbox } = u;
        const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
        ctx.save();
        ctx.strokeStyle = colour;
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        ctx.restore();
      },
    },
  });

  const make = (element, options, data) => {
    const chart = new uPlot({
      legend: { show: false },
      padding: [8, 1, 0, 0],
      ...options,
      width: Math.max(element.clientWidth, 200),
    }, data, element);
    return chart;
  };

  // Redraws when the width or the colours change; what was there before is taken away.
  const living = (element, draw) => {
    let width = 0;
    let drawn = [];
    const redraw = () => {
      for (const one of drawn) one.destroy();
      element.replaceChildren();
      width = element.clientWidth;
      drawn = draw();
    };
    redraw();
    new ResizeObserver(() => {
      if (Math.abs(element.clientWidth - width) > 1) redraw();
    }).observe(element);
    document.addEventListener("colours", redraw);
  };

  const zoomable = (element, data, extra = {}) => ({
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), data.zone),
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 6 }, ...extra.cursor },
    hooks: {
      setSelect: [(u) => {
        if (u.select.width < 8) return;
        const from = u.posToVal(u.select.left, "x");
        pages.zoom(element.dataset.page, from, u.posToVal(u.select.left + u.select.width, "x"));
      }],
      ...extra.hooks,
    },
  });

  const timeScale = (from, to) => ({ x: { time: true, range: () => [from, to] } });

  const verdictColour = () => {
    const colours = {
      false_alarm: pages.colour("strong-line", 0.3), expected: pages.colour("calm-mark", 0.34),
      confirmed: pages.colour("alarm-mark", 0.45), none: pages.colour("alarm-mark", 0.26),
      faint: pages.colour("alarm-mark", 0.1),
    };
    return (limitValue) => (one) => colours[one.verdict ?? (one.score > limitValue ? "none" : "faint")];
  };

  const scoreChart = (element, data) => {
    const readout = document.getElementById(element.dataset.readout);
    const short = data.zone;
    const at = (u) => {
      const i = u.cursor.idx;
      if (i === null || i === undefined) return "";
      const seconds = u.posToVal(u.cursor.left, "x");
      const episode = data.episodes.findLast((one) => one.start <= seconds && seconds <= Math.max(one.end, one.start + data.step));
      return `${pages.moment(data.x[i], short)} · score ${number(data.score[i])} · between streams ${number(data.cross[i])} · observed ${data.coverage[i] === null ? "–" : `${Math.round(data.coverage[i] * 100)} %`}${episode ? ` · ${episode.summary}` : ""}`;
    };
    living(element, () => {
      const blue = pages.colour("accent-mark");
      const stepped = uPlot.paths.stepped({ align: 1 });
      const sync = { key: "entity" };
      const marks = spans(data.episodes, verdictColour()(data.threshold));
      const show = { setCursor: [(u) => { if (u.cursor.event) readout.textContent = at(u); }] };
      const main = make(element, {
        ...zoomable(element, data, { hooks: show, cursor: { sync } }),
        height: 214,
        scales: { ...timeScale(data.from, data.to), y: { range: [0, 1] } },
        axes: axes(data.zone),
        plugins: [marks, limit(data.threshold, pages.colour("alarm-mark"))],
        series: [
          {},
          { stroke: pages.colour("strong-line", 0.75), width: 1, paths: stepped, spanGaps: false, points: { show: false } },
          { stroke: blue, fill: pages.colour("accent-mark", 0.12), width: 1.5, paths: stepped, spanGaps: false, points: { show: false } },
        ],
      }, [data.x, data.cross, data.score]);
      const strip = make(element, {
        ...zoomable(element, data, { hooks: show, cursor: { sync } }),
        height: 58,
        scales: { ...timeScale(data.from, data.to), y: { range: [0, 1] } },
        axes: axes(data.zone, { bare: true, space: 20, values: (u, splits) => splits.map((v) => (v === 0 || v === 1 ? `${v * 100} %` : "")) }),
        series: [
          {},
          { stroke: pages.colour("strong-line"), fill: pages.colour("strong-line", 0.3), width: 1, paths: stepped, spanGaps: false, points: { show: false } },
        ],
      }, [data.x, data.coverage]);
      main.over.addEventListener("click", () => {
        if (main.select.width >= 8) return;
        const seconds = main.posToVal(main.cursor.left, "x");
        const slack = (data.to - data.from) / main.over.clientWidth * 3;
        const episode = data.episodes.findLast((one) => one.start - slack <= seconds && seconds <= one.end + slack);
        if (episode) location.assign(`${element.dataset.episode}?anomaly=${episode.id}`);
      });
      const known = data.score.filter((v) => v !== null);
      main.over.setAttribute("role", "img");
      main.over.setAttribute("aria-label", known.length
        ? `Final score: highest ${number(Math.max(...known))}, ${data.episodes.length} episodes, all listed below`
        : "Final score: none known in the time shown");
      strip.over.setAttribute("role", "img");
      strip.over.setAttribute("aria-label", "Share of streams observed");
      if (!known.length) pages.say("No scores in the time shown.");
      return [main, strip];
    });
  };

  const streamChart = (element, data) => {
    const readout = document.getElementById(element.dataset.readout);
    living(element, () => {
      const show = { setCursor: [(u) => {
        const i = u.cursor.idx;
        if (!u.cursor.event || i === null || i === undefined) return;
        readout.textContent = `${pages.moment(data.x[i], data.zone)} · actual ${number(data.actual[i])} · expected ${number(data.expected[i])} · score ${number(data.score[i])}`;
      }] };
      const band = pages.colour("accent-mark", 0.2);
      const none = { points: { show: false }, spanGaps: false };
      const chart = make(element, {
        ...zoomable(element, data, { hooks: show, cursor: { sync: { key: "entity" } } }),
        height: 180,
        scales: { ...timeScale(data.from, data.to), y: {} },
        axes: axes(data.zone),
        bands: [{ series: [2, 1], fill: band }],
        series: [
          {},
          { ...none, width: 0, stroke: "transparent" },
          { ...none, width: 0, stroke: "transparent" },
          { ...none, stroke: pages.colour("soft"), width: 1, dash: [5, 4] },
          { ...none, stroke: pages.colour("accent-mark"), width: 1.5, points: { show: true, size: 2.5, filter: alone } },
        ],
      }, [data.x, data.low, data.high, data.expected, data.actual]);
      chart.over.setAttribute("role", "img");
      chart.over.setAttribute("aria-label", `${data.name}: actual and expected values`);
      return [chart];
    });
  };

  // A value without neighbours would be no line: only these are drawn as points.
  const alone = (u, series) => {
    const values = u.data[series];
    const found = [];
    values.forEach((value, i) => {
      if (value !== null && values[i - 1] == null && values[i + 1] == null) found.push(i);
    });
    return found;
  };

  // Lines stay unbroken over as many minutes as lie between two readings of the stream.
  const held = (stream) => {
    const out = [...stream.y];
    let last = -1;
    stream.y.forEach((value, i) => {
      if (value === null) return;
      if (last >= 0 && i - last > 1 && i - last <= stream.hold) {
        for (let k = last + 1; k < i; k += 1) {
          out[k] = stream.y[last] + (value - stream.y[last]) * (k - last) / (i - last);
        }
      }
      last = i;
    });
    return out;
  };

  const onsets = (list, colour) => ({
    hooks: {
      draw: (u) => {
        const { ctx, bbox } = u;
        const size = 5 * devicePixelRatio;
        ctx.save();
        ctx.fillStyle = colour;
        ctx.strokeStyle = colour;
        for (const [at, up] of list) {
          const x = u.valToPos(at, "x", true);
          const foot = bbox.top + bbox.height;
          ctx.globalAlpha = 0.7;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, foot);
          ctx.stroke();
          ctx.globalAlpha = 1;
          ctx.beginPath();
          const [tip, base] = up ? [bbox.top + 1, bbox.top + 2 * size] : [bbox.top + 2 * size, bbox.top + 1];
          ctx.moveTo(x, tip);
          ctx.lineTo(x - size, base);
          ctx.lineTo(x + size, base);
          ctx.fill();
        }
        ctx.restore();
      },
    },
  });

  const minutesChart = (element, data) => {
    const readout = document.getElementById(element.dataset.readout);
    if (!data.streams.length) {
      const text = document.createElement("p");
      text.className = "failed";
      text.textContent = "The explanation names no stream that could be drawn.";
      element.replaceChildren(text);
      return;
    }
    living(element, () => {
      const narrow = element.clientWidth < 600;
      const [from, to] = [data.streams[0].x[0], data.streams[0].x.at(-1) + 60];
      const shade = [{ start: data.start, end: data.end }];
      const colour = pages.colour("alarm-mark", 0.13);
      const none = { points: { show: false }, spanGaps: false };
      return data.streams.map((stream, row) => {
        const line = document.createElement("div");
        line.className = "stack-row";
        const name = document.createElement("p");
        name.className = "stack-name";
        name.textContent = stream.label;
        const box = document.createElement("div");
        line.append(name, box);
        element.append(line);
        const last = row === data.streams.length - 1;
        const chart = make(box, {
          tzDate: (at) => uPlot.tzDate(new Date(at * 1000), data.zone),
          height: last ? 116 : 82,
          scales: { ...timeScale(from, to), y: {} },
          axes: axes(data.zone, { bare: !last, axis: narrow ? 44 : 54, space: 26 }),
          cursor: { drag: { x: false, y: false }, sync: { key: "minutes" }, points: { size: 6 } },
          bands: [{ series: [2, 1], fill: pages.colour("strong-line", 0.28) }],
          plugins: [spans(shade, () => colour), onsets(stream.onsets, pages.colour("alarm-mark"))],
          hooks: { setCursor: [(u) => {
            const i = u.cursor.idx;
            if (!u.cursor.event || i === null || i === undefined) return;
            const parts = data.streams.map((one) => `${one.label.replace(/ \(.*$/, "")} ${number(one.y[i])}`);
            readout.textContent = `${pages.moment(stream.x[i], data.zone, false)} · ${parts.join(" · ")}`;
          }] },
          series: [
            {},
            { ...none, width: 0, stroke: "transparent" },
            { ...none, width: 0, stroke: "transparent" },
            stream.happening
              ? { ...none, stroke: pages.colour("accent-mark"), fill: pages.colour("accent-mark"), width: 1, paths: uPlot.paths.bars({ size: [0.7, 14] }) }
              : { ...none, stroke: pages.colour("accent-mark"), width: 1.6, points: { show: true, size: 3, fill: pages.colour("accent-mark"), filter: alone } },
          ],
        }, [stream.x, stream.low, stream.high, stream.happening ? stream.y : held(stream)]);
        chart.over.setAttribute("role", "img");
        chart.over.setAttribute("aria-label", `${stream.label}: ${stream.y.some((v) => v !== null) ? "minute by minute, with what was expected" : "nothing was received"}`);
        return chart;
      });
    });
  };

  const load = async (id, draw) => {
    const element = document.getElementById(id);
    if (!element) return;
    try {
      draw(element, await pages.fetch(element.dataset.src));
      element.dataset.drawn = "yes";
    } catch (error) {
      pages.failed(element, error, () => load(id, draw));
    }
  };
  load("score-chart", scoreChart);
  load("stream-chart", streamChart);
  load("minutes-chart", minutesChart);
}
