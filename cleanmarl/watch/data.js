// Unpack what page.py has packed: a compressed tree with typed arrays.

const TYPES = { f4: Float32Array, u1: Uint8Array };

/** Decompress the content of the page, and make its arrays. */
export async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, size));
  return JSON.parse(text, (_, value) => {
    if (!value?.array) return value;
    const [type, shape, offset] = value.array;
    const count = shape.reduce((product, length) => product * length, 1);
    return { shape, values: new TYPES[type](buffer, 4 + size + offset, count) };
  });
}

/** One number of an array, at its indices. */
export function at(array, ...indices) {
  return array.values[indices.reduce((place, index, axis) => place * array.shape[axis] + index, 0)];
}

/** The numbers along the last axis, at the indices of the others. */
export function row(array, ...indices) {
  const length = array.shape[array.shape.length - 1];
  const place = indices.reduce((sum, index, axis) => sum * array.shape[axis] + index, 0);
  return array.values.subarray(place * length, (place + 1) * length);
}

/** Number of steps of an episode; its scene has one moment more. */
export function length(episode) {
  return episode.q_tot.shape[0];
}

/** A number as text: `digits` decimals, fewer for large numbers. */
export function shown(value, digits = 2) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const places = size >= 1000 ? 0 : size >= 100 ? Math.min(1, digits) : digits;
  const text = size.toFixed(places);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

/** The same with its sign. */
export function signed(value, digits = 2) {
  const text = shown(value, digits);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

/** The difference of two numbers as they are printed, so that the three agree. */
export function difference(one, other, digits = 2) {
  const printed = (value) => Number(shown(value, digits).replace("−", "-"));
  return printed(one) - printed(other);
}

/** Number of decimals that distinguishes numbers within a spread. */
export function digitsFor(spread) {
  return Math.min(4, Math.max(2, 2 - Math.floor(Math.log10(Math.max(spread, 1e-9)))));
}

/** The smallest and the largest of the finite values. */
export function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}
