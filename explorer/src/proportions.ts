// What the page draws as the package's figures do: `headatlas.figures.proportions` has the same rules, and both read
// the same numbers and words.

import PROPORTIONS from "../../src/headatlas/figures/proportions.json";

export { PROPORTIONS };

/** Pixels between cells of this size. */
export const lineBetween = (cell: number) => Number(cell >= PROPORTIONS.line_from);

/** One distance between ticks for both axes: few on the longer axis, more if the shorter one would else have too few. */
function tickStep(layers: number, heads: number, atLeast: number): number {
  const [long, short] = [Math.max(layers, heads), Math.min(layers, heads)];
  const steps = PROPORTIONS.tick_steps.filter((step) => step >= atLeast);
  const within = (most: number) => steps.find((step) => Math.ceil(long / step) <= most);
  const step = within(PROPORTIONS.usual_ticks) ?? steps[steps.length - 1];
  const finer = within(PROPORTIONS.most_ticks) ?? step;
  const { least_ticks } = PROPORTIONS;
  return Math.ceil(short / step) < least_ticks && least_ticks <= Math.ceil(short / finer) ? finer : step;
}

/** Positions of the ticks along both axes, at least so far apart; an axis that would show too few gets its own step. */
export function ticks(layers: number, heads: number, forLayers: number, forHeads: number): [number[], number[]] {
  const shared = tickStep(layers, heads, Math.max(layers > 1 ? forLayers : 1, heads > 1 ? forHeads : 1));
  const along = (count: number, atLeast: number) => {
    const enough = Math.ceil(count / shared) >= PROPORTIONS.least_ticks;
    const step = enough ? shared : tickStep(count, count, atLeast);
    return Array.from({ length: Math.ceil(count / step) }, (_, number) => number * step);
  };
  return [along(layers, forLayers), along(heads, forHeads)];
}

/**
 * Names and colours of a legend from top to bottom: numbers of sets, the sets, the last first.
 *
 * @param counts colours of heads in 2, 3, ... sets; none where the map does not show them.
 * @param occurring how many sets heads are in.
 * @param several what a head with several colours has so many of.
 */
export function ordered(
  sets: [string, string][],
  counts: string[],
  occurring: Set<number>,
  several: string,
): [string, string][] {
  const numbers = counts
    .slice(0, Math.max(0, sets.length - 1))
    .map((colour, at) => [at + 2, colour] as const)
    .filter(([number]) => sets.length <= PROPORTIONS.named_counts || occurring.has(number))
    .map(([number, colour]) => [`${number} ${several}`, colour] as [string, string]);
  return [...numbers.reverse(), ...[...sets].reverse()];
}
