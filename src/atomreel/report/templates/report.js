"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const get = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const luts = Object.fromEntries(Object.entries(data.luts).map(([name, text]) => [name, bytes(text)]));
  const colourAt = (lut, t) => {
    const i = 3 * Math.round(254 * Math.min(1, Math.max(0, t)));
    return `rgb(${lut[i]},${lut[i + 1]},${lut[i + 2]})`;
  };
  const ramp = (lut) => {
    const stops = Array.from({ length: 11 }, (_, i) => colourAt(lut, i / 10));
    return `linear-gradient(to right, ${stops.join(",")})`;
  };
  const niceLength = (wanted) => {
    const decade = 10 ** Math.floor(Math.log10(wanted));
    return Math.max(...[1, 2, 5].map((m) => m * decade).filter((v) => v <= wanted * (1 + 1e-9)));
  };
  const lengthWords = (length, calibrated) => {
    const short = (v) => String(+v.toPrecision(3));
    if (!calibrated) return `${short(length)} px`;
    return length >= 10 ? `${short(length / 10)} nm` : `${short(length)} Å`;
  };

  if (data.frames) startViewer(data.frames);
  for (const element of document.querySelectorAll("[data-maps]")) startMaps(element, data[element.dataset.maps]);
  startCopy();

  function startViewer(view) {
    const canvas = get("stage");
    const context = canvas.getContext("2d");
    const slider = get("frame-slider");
    const shown = { frame: 0, zoom: 1, x: view.width / 2, y: view.height / 2, cursor: null };
    const images = new Map();
    const unpacked = new Map();
    const show = Object.fromEntries(["atoms", "defects", "tracks", "unknown"].map((name) => [name, get(`show-${name}`)]).filter(([, box]) => box));
    const colourBy = get("colour-by");
    const pixel = (v, digits) => ((v + 0.5) * view.scale - 0.5).toFixed(digits); // of the movie

    const image = (i) => {
      if (!images.has(i)) {
        const element = new Image();
        element.onload = () => { if (i === shown.frame) draw(); };
        element.src = view.frames[i].image;
        images.set(i, element);
      }
      return images.get(i);
    };
    const atoms = (i) => {
      if (!unpacked.has(i)) {
        const raw = bytes(view.atoms[i]);
        const n = raw.length / 8;
        const wide = new Uint16Array(raw.buffer, 0, 3 * n);
        unpacked.set(i, {
          n,
          x: Float32Array.from(wide.subarray(0, n), (v) => v / 64 - 1),
          y: Float32Array.from(wide.subarray(n, 2 * n), (v) => v / 64 - 1),
          error: Float32Array.from(wide.subarray(2 * n), (v) => (v === 65535 ? NaN : v / 1000)),
          species: raw.subarray(6 * n, 7 * n),
          score: raw.subarray(7 * n),
        });
      }
      return unpacked.get(i);
    };
    const errorTop = () => {
      const all = Array.from(atoms(0).error).filter(Number.isFinite).sort((a, b) => a - b);
      return +(all[Math.floor(all.length * 0.98)] || 0.1).toPrecision(2);
    };
    let topError = null;

    // Canvas coordinates of a preview position.
    const place = () => {
      const factor = (canvas.width / view.width) * shown.zoom;
      return {
        factor,
        x: (x) => (x + 0.5 - shown.x) * factor + canvas.width / 2,
        y: (y) => (y + 0.5 - shown.y) * factor + canvas.height / 2,
      };
    };

    function fit() {
      const ratio = window.devicePixelRatio || 1;
      const width = canvas.parentElement.clientWidth;
      const height = Math.min(width * view.height / view.width, Math.max(window.innerHeight * 0.9, 320));
      canvas.style.height = `${height}px`;
      canvas.style.width = `${height * view.width / view.height}px`;
      canvas.style.margin = "0 auto";
      canvas.width = Math.round(height * view.width / view.height * ratio);
      canvas.height = Math.round(height * ratio);
      draw();
    }

    function draw() {
      const at = place();
      const dot = canvas.width / canvas.clientWidth || 1;
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
      const picture = image(shown.frame);
      context.imageSmoothingEnabled = at.factor < 3;
      if (picture.complete && picture.naturalWidth) {
        context.drawImage(picture, at.x(-0.5), at.y(-0.5), view.width * at.factor, view.height * at.factor);
      }
      if (show.unknown?.checked) drawUnknown(at);
      if (show.atoms.checked) drawAtoms(at, dot);
      if (show.tracks.checked) drawTracks(at, dot);
      if (show.defects.checked) drawDefects(at, dot);
      drawBar(at, dot);
    }

    function drawAtoms(at, dot) {
      const { n, x, y, species, score, error } = atoms(shown.frame);
      if (!n) return;
      const spacing = Math.sqrt(view.width * view.height / n) * at.factor;
      const open = spacing > 13 * dot; // rings where there is room, so that the image stays visible
      const radius = open ? Math.min(spacing * 0.3, 16 * dot) : Math.max(spacing * 0.16, 1.1 * dot);
      const mode = colourBy.value;
      context.lineWidth = Math.min(Math.max(spacing / 14, 1.3 * dot), 2.2 * dot);
      for (let i = 0; i < n; i++) {
        let colour = view.species[species[i]].colour;
        if (mode === "score") colour = colourAt(luts.viridis, score[i] / 255);
        if (mode === "error") colour = Number.isFinite(error[i]) ? colourAt(luts.viridis, error[i] / topError) : "#888";
        context.beginPath();
        context.arc(at.x(x[i]), at.y(y[i]), radius, 0, 2 * Math.PI);
        if (open) { context.strokeStyle = colour; context.stroke(); }
        else { context.fillStyle = colour; context.fill(); }
      }
    }

    function drawUnknown(at) {
      context.fillStyle = "#d500f944";
      for (const [x, y, width, height] of view.unknown[shown.frame]) {
        context.fillRect(at.x(x), at.y(y), width * at.factor, height * at.factor);
      }
    }

    function drawDefects(at, dot) {
      const radius = Math.max(8 * dot, 0.016 * canvas.width * Math.sqrt(shown.zoom));
      context.font = `600 ${12 * dot}px system-ui, sans-serif`;
      const few = view.defects[shown.frame].length <= 12 || shown.zoom > 2;
      for (const [px, py, kind] of view.defects[shown.frame]) {
        const x = at.x(px), y = at.y(py);
        for (const [colour, width] of [["#000", 4], ["#ffffff", 1.8]]) {
          context.strokeStyle = colour;
          context.lineWidth = width * dot;
          context.strokeRect(x - radius, y - radius, 2 * radius, 2 * radius);
        }
        if (few) label(view.kinds[kind].name, x + radius + 3 * dot, y - radius + 8 * dot, dot);
      }
    }

    function drawTracks(at, dot) {
      const now = view.frames[shown.frame];
      for (const path of view.tracks) {
        const last = path.frames.length - 1;
        if (path.frames[0] > now.number) continue;
        const alive = path.frames[last] >= now.number;
        context.strokeStyle = ["#ffd60a", "#64d2ff", "#ff9f0a", "#30d158", "#ff6fb5"][path.track % 5];
        context.globalAlpha = alive ? 1 : 0.35;
        context.lineWidth = (alive ? 2 : 1.2) * dot;
        context.beginPath();
        for (let i = 0; i <= last && path.frames[i] <= now.number; i++) {
          const x = at.x(path.x[i] + now.shift[0]), y = at.y(path.y[i] + now.shift[1]);
          if (i) context.lineTo(x, y); else context.moveTo(x, y);
        }
        context.stroke();
        context.globalAlpha = 1;
      }
    }

    function label(text, x, y, dot) {
      context.lineWidth = 3 * dot;
      context.strokeStyle = "#000";
      context.strokeText(text, x, y);
      context.fillStyle = "#fff";
      context.fillText(text, x, y);
    }

    function drawBar(at, dot) {
      const perPixel = view.unit / at.factor;
      const length = niceLength(canvas.width * perPixel * 0.25);
      const wide = length / perPixel, left = 16 * dot, bottom = canvas.height - 16 * dot;
      context.fillStyle = "#000";
      context.fillRect(left - dot, bottom - 6 * dot, wide + 2 * dot, 7 * dot);
      context.fillStyle = "#fff";
      context.fillRect(left, bottom - 5 * dot, wide, 5 * dot);
      context.font = `600 ${14 * dot}px system-ui, sans-serif`;
      label(lengthWords(length, view.calibrated), left, bottom - 12 * dot, dot);
    }

    function setFrame(i) {
      shown.frame = Math.min(Math.max(i, 0), view.frames.length - 1);
      const frame = view.frames[shown.frame];
      const time = frame.time === null ? "" : `, t = ${frame.time.toFixed(2)} s`;
      get("where").textContent = `Frame ${frame.number}${time}`;
      if (slider) {
        slider.value = shown.frame;
        slider.setAttribute("aria-valuetext", `frame ${frame.number}${time}`);
      }
      const alive = view.tracks.filter((t) => t.frames[0] <= frame.number && t.frames[t.frames.length - 1] >= frame.number);
      get("count-atoms").textContent = atoms(shown.frame).n.toLocaleString("en");
      get("count-defects").textContent = view.defects[shown.frame].length.toLocaleString("en");
      get("count-tracks").textContent = alive.length.toLocaleString("en");
      draw();
    }

    function setKey() {
      const key = get("key");
      key.replaceChildren();
      if (colourBy.value === "species") {
        for (const { name, colour } of view.species) {
          const item = make("li");
          const spot = make("i");
          spot.style.background = colour;
          item.append(spot, name);
          key.append(item);
        }
        return;
      }
      if (topError === null) topError = errorTop();
      const item = make("li");
      const strip = make("span", "ramp");
      strip.style.background = ramp(luts.viridis);
      const ends = make("span", "ends");
      const score = colourBy.value === "score";
      ends.append(make("span", "", score ? "0" : "0 px"), make("span", "", score ? "1" : `${topError} px`));
      item.append(strip, ends);
      key.append(item);
    }

    function read(event) {
      const box = canvas.getBoundingClientRect();
      const dot = canvas.width / box.width;
      const at = place();
      const px = (event.clientX - box.left) * dot, py = (event.clientY - box.top) * dot;
      let best = null, nearest = (14 * dot) ** 2;
      const consider = (x, y, words) => {
        const d = (at.x(x) - px) ** 2 + (at.y(y) - py) ** 2;
        if (d < nearest) { nearest = d; best = words; }
      };
      if (show.atoms.checked) {
        const a = atoms(shown.frame);
        for (let i = 0; i < a.n; i++) {
          consider(a.x[i], a.y[i], () => `${view.species[a.species[i]].name}: y ${pixel(a.y[i], 2)}, x ${pixel(a.x[i], 2)} px, ± ${a.error[i].toFixed(3)} px per axis, score ${(a.score[i] / 255).toFixed(2)}`);
        }
      }
      if (show.defects.checked) {
        for (const [x, y, kind, score] of view.defects[shown.frame]) {
          consider(x, y, () => `${view.kinds[kind].name}: y ${pixel(y, 1)}, x ${pixel(x, 1)} px, probability ${score.toFixed(2)}`);
        }
      }
      get("readout").textContent = best ? best() : "Point at a mark to read it.";
    }

    function zoom(factor, x, y) {
      const before = shown.zoom;
      shown.zoom = Math.min(Math.max(shown.zoom * factor, 1), 16);
      const change = 1 - before / shown.zoom;
      if (x !== undefined) { shown.x += (x - shown.x) * change; shown.y += (y - shown.y) * change; }
      keepInside();
      draw();
    }
    function keepInside() {
      const halfX = view.width / shown.zoom / 2, halfY = view.height / shown.zoom / 2;
      shown.x = Math.min(Math.max(shown.x, halfX), view.width - halfX);
      shown.y = Math.min(Math.max(shown.y, halfY), view.height - halfY);
    }

    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY };
      read(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag || shown.zoom === 1 || !event.buttons) { read(event); return; }
      const factor = canvas.clientWidth / view.width * shown.zoom;
      shown.x -= (event.clientX - drag.x) / factor;
      shown.y -= (event.clientY - drag.y) / factor;
      drag = { x: event.clientX, y: event.clientY };
      keepInside();
      draw();
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(name, () => { drag = null; });
    canvas.addEventListener("dblclick", (event) => {
      const box = canvas.getBoundingClientRect();
      const factor = box.width / view.width * shown.zoom;
      zoom(2, shown.x + (event.clientX - box.left - box.width / 2) / factor, shown.y + (event.clientY - box.top - box.height / 2) / factor);
    });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.key === "+" || event.key === "=") zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else if (event.key in moves && shown.zoom > 1) {
        shown.x += moves[event.key][0] * 0.1 * view.width / shown.zoom;
        shown.y += moves[event.key][1] * 0.1 * view.height / shown.zoom;
        keepInside();
        draw();
      } else if (event.key === "ArrowLeft") setFrame(shown.frame - 1);
      else if (event.key === "ArrowRight") setFrame(shown.frame + 1);
      else return;
      event.preventDefault();
    });
    get("zoom-in").addEventListener("click", () => zoom(1.6));
    get("zoom-out").addEventListener("click", () => zoom(1 / 1.6));
    get("zoom-all").addEventListener("click", () => { shown.zoom = 1; keepInside(); draw(); });
    for (const box of Object.values(show)) box.addEventListener("change", draw);
    colourBy.addEventListener("change", () => { setKey(); draw(); });
    if (slider) {
      slider.addEventListener("input", () => setFrame(+slider.value));
      const play = get("play");
      let timer = null;
      play.addEventListener("click", () => {
        if (timer) { clearInterval(timer); timer = null; }
        else timer = setInterval(() => setFrame((shown.frame + 1) % view.frames.length), 160);
        play.textContent = timer ? "❚❚" : "▶";
        play.setAttribute("aria-label", timer ? "Pause" : "Play");
      });
    }
    window.addEventListener("resize", fit);
    setKey();
    fit();
    setFrame(0);
  }

  function startMaps(element, view) {
    const lut = luts[view.lut];
    const grid = element.querySelector(".grid");
    const canvases = view.maps.map((map) => {
      const box = make("div", "map");
      box.append(make("h4", "", map.name));
      const frame = make("div", "image");
      frame.style.aspectRatio = String(view.aspect);
      const canvas = make("canvas");
      canvas.width = view.width;
      canvas.height = view.height;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", map.name);
      const bar = make("div", "bar", view.bar.words);
      bar.style.width = `${100 * view.bar.fraction}%`;
      frame.append(canvas, bar);
      box.append(frame);
      if (map.classes) {
        const key = make("div", "classes");
        for (const { name, colour } of map.classes) {
          const item = make("span");
          const spot = make("i");
          spot.style.background = colour;
          item.append(spot, name);
          key.append(item);
        }
        box.append(key);
      } else {
        const strip = make("div", "ramp");
        strip.style.background = ramp(lut);
        const ends = make("div", "ends");
        const unit = map.unit ? ` ${map.unit}` : "";
        ends.append(make("span", "", String(map.low).replace("-", "−") + unit));
        if (map.low < 0) ends.append(make("span", "", "0"));
        ends.append(make("span", "", map.high + unit));
        box.append(strip, ends);
        if (map.note) box.append(make("p", "error", map.note));
      }
      grid.append(box);
      return canvas;
    });
    const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const paint = (i) => view.maps.forEach((map, m) => {
      const context = canvases[m].getContext("2d");
      const pixels = context.createImageData(view.width, view.height);
      const palette = map.classes && map.classes.map((c) => rgb(c.colour));
      bytes(map.data[i]).forEach((value, p) => {
        if (value === 255) return;
        const colour = palette ? palette[value] : lut.subarray(3 * value, 3 * value + 3);
        pixels.data.set([colour[0], colour[1], colour[2], 255], 4 * p);
      });
      context.putImageData(pixels, 0, 0);
    });
    const slider = element.querySelector("input[type=range]");
    if (slider) {
      const output = element.querySelector("output");
      slider.addEventListener("input", () => {
        output.textContent = view.frames[+slider.value];
        slider.setAttribute("aria-valuetext", `frame ${view.frames[+slider.value]}`);
        paint(+slider.value);
      });
    }
    paint(0);
  }

  function startCopy() {
    get("copy-methods").addEventListener("click", async () => {
      const text = get("methods-plain");
      try {
        await navigator.clipboard.writeText(text.value);
      } catch {
        text.select();
        document.execCommand("copy");
      }
      get("copied").textContent = "Copied.";
    });
  }
})();
