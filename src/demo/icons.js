// Small drawings, as elements: they take the colour of the text around them.

const SHAPES = {
  waiting: ['0 0 16 12', 'M8 1.5a4.5 4.5 0 1 0 .01 0M8 3.5V6l1.7 1'],
  failing: ['0 0 16 12', 'M8 1.5v5.5M8 9.7v.3'],
  sent: ['0 0 16 12', 'M3 6.5l3.2 3.2L13 2.5'],
  delivered: ['0 0 20 12', 'M1.5 6.5l3.2 3.2 6.8-7.2M8.6 9.2l.6.5L16 2.5'],
  read: ['0 0 20 12', 'M1.5 6.5l3.2 3.2 6.8-7.2M8.6 9.2l.6.5L16 2.5'],
  room: ['0 0 24 24', 'M4 11l8-6.5 8 6.5M6.5 9.5V19h11V9.5M10 19v-5h4v5'],
  send: ['0 0 24 24', 'M12 19V5M5.5 11.5L12 5l6.5 6.5'],
  back: ['0 0 24 24', 'M15 5l-7 7 7 7'],
};

export function icon(name) {
  const [viewBox, path] = SHAPES[name];
  const svg = element('svg', { viewBox, class: `icon-${name}`, 'aria-hidden': 'true', fill: 'none', stroke: 'currentColor' });
  svg.append(element('path', { d: path, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' }));
  return svg;
}

function element(tag, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
