"use strict";

// Only one version plays at a time: `current` is the one that plays or played last.
let current = null;

function audioOf(version) {
  return version.querySelector("audio");
}

function clock(seconds) {
  return seconds.toFixed(1);
}

function showTime(version) {
  const audio = audioOf(version);
  const seek = version.querySelector(".seek");
  seek.value = audio.currentTime;
  const position = `${clock(audio.currentTime)} of ${clock(Number(seek.max))} seconds`;
  version.querySelector(".time").textContent = `${clock(audio.currentTime)} / ${clock(Number(seek.max))} s`;
  seek.setAttribute("aria-valuetext", position);
}

function seekTo(version, seconds) {
  const audio = audioOf(version);
  const set = () => {
    audio.currentTime = Math.min(seconds, audio.duration || seconds);
    showTime(version);
  };
  if (audio.readyState >= 1) {
    set();
  } else {
    audio.addEventListener("loadedmetadata", set, { once: true });
    audio.preload = "auto";
    audio.load();
  }
}

function play(version, from) {
  if (from !== undefined) {
    seekTo(version, from);
  }
  audioOf(version).play().catch((error) => {
    // A pause before the audio has started is not an error.
    if (error.name !== "AbortError") {
      version.querySelector(".time").textContent = "this browser can’t play FLAC";
    }
  });
}

function toggle(version) {
  const audio = audioOf(version);
  if (audio.paused) {
    play(version);
  } else {
    audio.pause();
  }
}

function pauseAll(except) {
  for (const audio of document.querySelectorAll("audio")) {
    if (audio !== except && !audio.paused) {
      audio.pause();
    }
  }
}

function markPlaying(version, playing) {
  const label = `${playing ? "Pause" : "Play"} ${version.dataset.name}, clip ${version.dataset.clip}`;
  version.classList.toggle("playing", playing);
  version.querySelector(".play").setAttribute("aria-label", label);
  const quick = quickButtons.get(version.id);
  if (quick) {
    quick.setAttribute("aria-pressed", String(playing));
    quick.setAttribute("aria-label", label);
  }
}

// Buttons of the first screen play the audio of the versions below, by their ids.
const quickButtons = new Map();

function setUpQuick(button) {
  const version = document.getElementById(button.dataset.version);
  quickButtons.set(version.id, button);
  button.hidden = false;
  button.addEventListener("click", () => {
    const other = current && current !== version && !audioOf(current).paused;
    if (other && current.dataset.clip === version.dataset.clip) {
      play(version, audioOf(current).currentTime); // the same moment, to compare
    } else {
      toggle(version);
    }
  });
}

function follow(version) {
  const audio = audioOf(version);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (audio.paused || calm) {
    return;
  }
  version.querySelector(".seek").value = audio.currentTime;
  requestAnimationFrame(() => follow(version));
}

function setUpVersion(version) {
  const audio = audioOf(version);
  const button = version.querySelector(".play");
  const seek = version.querySelector(".seek");
  const strip = version.querySelector(".strip");
  audio.controls = false;
  audio.hidden = true;
  button.hidden = false;
  seek.hidden = false;
  button.addEventListener("click", () => toggle(version));
  seek.addEventListener("input", () => seekTo(version, Number(seek.value)));
  audio.addEventListener("play", () => {
    pauseAll(audio);
    current = version;
    markPlaying(version, true);
    follow(version);
  });
  for (const event of ["pause", "ended"]) {
    audio.addEventListener(event, () => markPlaying(version, false));
  }
  audio.addEventListener("timeupdate", () => showTime(version));
  const atPointer = (event) => {
    const box = strip.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    seekTo(version, share * Number(seek.max));
  };
  strip.addEventListener("pointerdown", (event) => {
    strip.setPointerCapture(event.pointerId);
    atPointer(event);
  });
  strip.addEventListener("pointermove", (event) => {
    if (strip.hasPointerCapture(event.pointerId)) {
      atPointer(event);
    }
  });
}

function setUpClip(clip) {
  const versions = [...clip.querySelectorAll(".version")];
  versions.forEach(setUpVersion);
  clip.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const own = versions.includes(current) ? current : null;
    if (/^[1-9]$/.test(event.key) && versions[event.key - 1]) {
      const chosen = versions[event.key - 1];
      const from = own ? audioOf(own).currentTime : 0;
      pauseAll();
      play(chosen, own && audioOf(own).ended ? 0 : from);
      chosen.querySelector(".play").focus();
    } else if (event.key.toLowerCase() === "p") {
      toggle(own || versions[0]);
    } else {
      return;
    }
    event.preventDefault();
  });
  clip.addEventListener("toggle", () => {
    if (!clip.open) {
      versions.forEach((version) => audioOf(version).pause());
    }
  });
}

const PAGE = 50; // rows of a long table that are shown at first
const order = new Intl.Collator("en", { numeric: true });

function setUpTable(form) {
  const number = form.dataset.set;
  const table = document.getElementById(`set${number}-table`);
  const more = document.getElementById(`set${number}-more`);
  const scores = JSON.parse(document.getElementById(`set${number}-scores`).textContent);
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((row) => ({
    row,
    index: Number(row.dataset.row),
    words: row.textContent.toLowerCase(),
    cells: [...row.cells].map((cell) => (cell.firstChild ? cell.firstChild.textContent.trim() : "")),
  }));
  let shown = PAGE;
  let sorted = null; // {column, down}

  const figure = () => (form.elements.figure ? scores[form.elements.figure.value] : null);

  function valueOf(entry, column) {
    const key = headers[column].dataset.sort;
    if (/^\d+$/.test(key)) {
      return figure().rows[entry.index][Number(key)];
    }
    return key === "seconds" ? Number(entry.cells[column]) : entry.cells[column];
  }

  function compare(a, b) {
    const [x, y] = [valueOf(a, sorted.column), valueOf(b, sorted.column)];
    if (x === null || y === null) {
      return (x === null) - (y === null); // clips without a score come last in both directions
    }
    const found = typeof x === "number" ? x - y : order.compare(x, y);
    return (sorted.down ? -found : found) || a.index - b.index;
  }

  function show() {
    const words = form.elements.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { speaker, language } = form.elements;
    const found = rows.filter(
      (entry) =>
        words.every((word) => entry.words.includes(word)) &&
        (!speaker.value || entry.row.dataset.speaker === speaker.value) &&
        (!language.value || entry.row.dataset.language === language.value),
    );
    if (sorted) {
      found.sort(compare);
    }
    body.replaceChildren(...found.slice(0, shown).map((entry) => entry.row));
    more.hidden = found.length <= shown;
    const here = Math.min(shown, found.length);
    const all = `${found.length} of ${rows.length} clips`;
    form.querySelector(".count").textContent = here < found.length ? `${all}, the first ${here} shown` : all;
  }

  function showFigure() {
    const chosen = figure();
    table.querySelector(".chosen").textContent = chosen.title;
    for (const entry of rows) {
      [...entry.row.querySelectorAll(".score")].forEach((cell, codec) => {
        const score = chosen.rows[entry.index][codec];
        cell.textContent = score === null ? "–" : score.toFixed(chosen.decimals);
      });
    }
  }

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      sorted = { column, down: sorted !== null && sorted.column === column && !sorted.down };
      for (const other of headers) {
        other.setAttribute("aria-sort", "none");
      }
      header.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      show();
    });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "figure") {
      showFigure();
    }
    shown = PAGE;
    show();
  });
  more.addEventListener("click", () => {
    shown += PAGE;
    show();
  });
  form.reset();
  form.hidden = false;
  show();
}

function openTarget() {
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  const fold = target && (target.closest("details") || target.querySelector(":scope > details"));
  if (fold) {
    for (let each = fold; each; each = each.parentElement.closest("details")) {
      each.open = true;
    }
    fold.querySelector("summary").focus();
    fold.scrollIntoView();
  }
}

document.querySelectorAll(".clip").forEach(setUpClip);
document.querySelectorAll(".quick").forEach(setUpQuick);
document.querySelectorAll(".filters").forEach(setUpTable);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    pauseAll();
  }
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']:not(.skip)");
  if (link) {
    // After the browser has moved to the target, also if the address does not change.
    setTimeout(openTarget);
  }
});
window.addEventListener("hashchange", openTarget);
openTarget();
