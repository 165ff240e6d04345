// What is measured in a page by page_checks.py. Colours go through a canvas: it knows every notation.

globalThis.checks = {
  /** Text, borders of controls, placeholders and keys of charts, each against what is behind it. */
  contrast: () => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
  const brush = canvas.getContext('2d', {willReadFrequently: true});
  const rgba = (css) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = '#000';
    brush.fillStyle = css;
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
    return a ? [r, g, b, a / 255] : [0, 0, 0, 0];
  };
  const over = (top, below, alpha = top[3]) => [0, 1, 2].map((i) => top[i] * alpha + below[i] * (1 - alpha)).concat(1);
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const opacity = (element) => {
    let found = 1;
    for (let e = element; e; e = e.parentElement) found *= Number(getComputedStyle(e).opacity);
    return found;
  };
  const isShown = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && element.checkVisibility({visibilityProperty: true}) && !element.closest('.sr');
  };
  const bad = [];
  let seen = 0;
  const judge = (element, colour, least, what) => {
    const ground = behind(what === 'text' ? element : element.parentElement);
    const found = ratio(over(rgba(colour), ground, rgba(colour)[3] * opacity(element)), ground);
    seen += 1;
    if (found < least) bad.push(`${what} ${found.toFixed(2)} < ${least}: ${element.tagName}.${element.className.baseVal ?? element.className} ${(element.textContent || element.id).trim().slice(0, 40)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest('script, noscript, style, title, option') || !isShown(element)) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    judge(element, element instanceof SVGElement ? style.fill : style.color, isLarge ? 3 : 4.5, 'text');
  }
  for (const element of document.querySelectorAll('input, select, .quiet, .switch, .choices')) {
    if (isShown(element)) judge(element, getComputedStyle(element).borderTopColor, 3, 'border');
    if (element.placeholder && isShown(element)) judge(element, getComputedStyle(element, '::placeholder').color, 4.5, 'placeholder');
  }
  for (const element of document.querySelectorAll('.legend .swatch:not(.band, .saved)')) {
    if (isShown(element)) judge(element, getComputedStyle(element).backgroundColor, 3, 'swatch');
  }
  return {bad, seen};
},

  /** Controls that are too small to hit. */
  targets: () => [...document.querySelectorAll('button, select, input, summary, [role=button]')]
  .filter((e) => e.checkVisibility({visibilityProperty: true}) && e.getBoundingClientRect().width > 0)
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([, box]) => Math.min(box.width, box.height) < 23.9)
  .map(([e, box]) => `${e.dataset.key ?? e.id ?? e.tagName}: ${box.width.toFixed(1)} x ${box.height.toFixed(1)}`),

  /** What is wrong with ids, headings, labels, tables and the width. */
  structure: () => {
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  const levels = [...document.querySelectorAll('h1, h2, h3, h4')].filter((e) => e.checkVisibility()).map((e) => Number(e.tagName[1]));
  return {
    twice: ids.filter((id, i) => ids.indexOf(id) !== i),
    jumps: levels.filter((level, i) => level > (levels[i - 1] ?? 0) + 1),
    dangling: [...document.querySelectorAll('[aria-labelledby], [for]')]
      .map((e) => e.getAttribute('aria-labelledby') ?? e.getAttribute('for'))
      .filter((id) => !document.getElementById(id)),
    tables: [...document.querySelectorAll('table')].filter((t) => !t.querySelector('th[scope]')).length,
    wide: Math.max(0, document.documentElement.scrollWidth - innerWidth),
  };
},

  /** Where the focus is, and whether it can be seen. */
  focused: () => {
  const e = document.activeElement;
  const ring = e.classList.contains('region') ? e.querySelector('.halo') : e;
  const style = getComputedStyle(ring);
  const isRinged = ring === e ? style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 : style.stroke !== 'none';
  return [e === document.body ? '' : e.dataset.key || e.id || `${e.tagName} ${e.textContent.slice(0, 30)}`, isRinged];
},
};
